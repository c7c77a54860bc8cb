package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// JWT makes and understands signed tokens, which carry the user and the
// revision of users and roles, so that no member has to remember them.
type JWT struct {
	method jwt.SigningMethod
	// sign is nil where only the public key is known.
	sign, verify any
	ttl          time.Duration
}

// newJWT reads the options sign-method, priv-key, pub-key and ttl; keys are
// names of files. Others are passed over, as in etcd.
func newJWT(options map[string]string) (*JWT, error) {
	j := &JWT{ttl: DefaultTokenTTL, method: jwt.GetSigningMethod(options["sign-method"])}
	if v := options["ttl"]; v != "" {
		ttl, err := time.ParseDuration(v)
		if err != nil {
			return nil, fmt.Errorf("%w: ttl: %w", ErrInvalidOptions, err)
		}
		j.ttl = ttl
	}
	private, err := readKey(options["priv-key"])
	if err != nil {
		return nil, err
	}
	public, err := readKey(options["pub-key"])
	if err != nil {
		return nil, err
	}
	if j.method == nil {
		return nil, fmt.Errorf("%w: %w: %q", ErrInvalidOptions, ErrInvalidMethod, options["sign-method"])
	}
	if err := j.setKeys(private, public); err != nil {
		return nil, fmt.Errorf("keys for %s: %w", j.method.Alg(), err)
	}
	return j, nil
}

func readKey(file string) ([]byte, error) {
	if file == "" {
		return nil, nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidOptions, err)
	}
	return b, nil
}

func (j *JWT) setKeys(private, public []byte) error {
	switch j.method.(type) {
	case *jwt.SigningMethodRSA, *jwt.SigningMethodRSAPSS:
		return setPair(j, private, public, jwt.ParseRSAPrivateKeyFromPEM, jwt.ParseRSAPublicKeyFromPEM)
	case *jwt.SigningMethodECDSA:
		return setPair(j, private, public, jwt.ParseECPrivateKeyFromPEM, jwt.ParseECPublicKeyFromPEM)
	case *jwt.SigningMethodEd25519:
		return setPair(j, private, public, parseEdPrivate, parseEdPublic)
	case *jwt.SigningMethodHMAC:
		if len(private) == 0 {
			return ErrMissingKey
		}
		j.sign, j.verify = private, private
		return nil
	}
	return fmt.Errorf("unsupported signing method: %T", j.method)
}

func parseEdPrivate(pem []byte) (ed25519.PrivateKey, error) {
	k, err := jwt.ParseEdPrivateKeyFromPEM(pem)
	if err != nil {
		return nil, err
	}
	private, ok := k.(ed25519.PrivateKey)
	if !ok {
		return nil, jwt.ErrNotEdPrivateKey
	}
	return private, nil
}

func parseEdPublic(pem []byte) (ed25519.PublicKey, error) {
	k, err := jwt.ParseEdPublicKeyFromPEM(pem)
	if err != nil {
		return nil, err
	}
	public, ok := k.(ed25519.PublicKey)
	if !ok {
		return nil, jwt.ErrNotEdPublicKey
	}
	return public, nil
}

type publicKey interface {
	*rsa.PublicKey | *ecdsa.PublicKey | ed25519.PublicKey
	Equal(crypto.PublicKey) bool
}

// setPair takes a private key, a public key, or both when they belong together.
func setPair[K crypto.Signer, P publicKey](j *JWT, private, public []byte,
	parsePrivate func([]byte) (K, error), parsePublic func([]byte) (P, error)) error {
	if len(private) > 0 {
		k, err := parsePrivate(private)
		if err != nil {
			return err
		}
		j.sign, j.verify = k, k.Public()
	}
	if len(public) > 0 {
		p, err := parsePublic(public)
		if err != nil {
			return err
		}
		if j.sign != nil && !p.Equal(j.verify) {
			return ErrKeyMismatch
		}
		j.verify = p
	}
	if j.verify == nil {
		return ErrMissingKey
	}
	return nil
}

// Sign makes the token of a user at a revision.
func (j *JWT) Sign(user string, revision uint64, now time.Time) (string, error) {
	if j.sign == nil {
		return "", ErrVerifyOnly
	}
	token := jwt.NewWithClaims(j.method, jwt.MapClaims{
		"username": user, "revision": revision, "exp": now.Add(j.ttl).Unix(),
	})
	signed, err := token.SignedString(j.sign)
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	return signed, nil
}

// Identify finds out who a token stands for. Every error is ErrInvalidToken.
func (j *JWT) Identify(token string, now time.Time) (Identity, error) {
	parser := jwt.NewParser(jwt.WithTimeFunc(func() time.Time { return now }))
	parsed, err := parser.Parse(token, func(t *jwt.Token) (any, error) {
		if t.Method.Alg() != j.method.Alg() {
			return nil, errors.New("another signing method")
		}
		return j.verify, nil
	})
	if err != nil {
		return Identity{}, ErrInvalidToken
	}
	claims, ok := parsed.Claims.(jwt.MapClaims)
	if !ok {
		return Identity{}, ErrInvalidToken
	}
	user, ok := claims["username"].(string)
	revision, isNumber := claims["revision"].(float64)
	if !ok || !isNumber {
		return Identity{}, ErrInvalidToken
	}
	return Identity{User: user, Revision: uint64(revision)}, nil
}
