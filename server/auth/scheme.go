package auth

import (
	"fmt"
	"strings"
)

// Scheme is how tokens are made and understood: by --auth-token. The zero value
// is simple tokens.
type Scheme struct {
	// JWT is set where tokens are JSON Web Tokens.
	JWT *JWT
	// None: there are no tokens, and nobody can authenticate with a password.
	None bool
}

// ParseScheme reads the value of --auth-token: "simple", "jwt" with options
// after commas, or nothing. Errors wrap those of this package.
func ParseScheme(value string) (Scheme, error) {
	kind, rest, more := strings.Cut(value, ",")
	options := map[string]string{}
	for more {
		var pair string
		pair, rest, more = strings.Cut(rest, ",")
		parts := strings.Split(pair, "=")
		if len(parts) != 2 {
			return Scheme{}, fmt.Errorf("%w: %q is not name=value", ErrInvalidOptions, pair)
		}
		if _, twice := options[parts[0]]; twice {
			return Scheme{}, fmt.Errorf("%w: %s is given twice", ErrInvalidOptions, parts[0])
		}
		options[parts[0]] = parts[1]
	}
	switch kind {
	case "simple":
		return Scheme{}, nil
	case "jwt":
		j, err := newJWT(options)
		return Scheme{JWT: j}, err
	case "":
		return Scheme{None: true}, nil
	}
	return Scheme{}, fmt.Errorf("%w: unknown token type %q", ErrInvalidOptions, kind)
}
