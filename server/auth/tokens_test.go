package auth

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestTokensLiveWhileUsed(t *testing.T) {
	now := time.Unix(1000, 0)
	tokens := NewTokens(10*time.Second, func() time.Time { return now })
	tokens.Assign("a.1", "u")
	tokens.Assign("b.2", "u")
	tokens.Assign("c.3", "v")
	for range 3 {
		now = now.Add(9 * time.Second)
		if user, ok := tokens.Lookup("a.1"); !ok || user != "u" {
			t.Fatalf("the token in use stands for %q, %v", user, ok)
		}
	}
	if _, ok := tokens.Lookup("b.2"); ok {
		t.Error("a token outlives its time")
	}
	tokens.Assign("d.4", "v")
	if len(tokens.tokens) != 2 {
		t.Errorf("%d tokens are kept, want the one in use and the new one", len(tokens.tokens))
	}
	tokens.Forget("u")
	if _, ok := tokens.Lookup("a.1"); ok {
		t.Error("a forgotten user has a token")
	}
	if _, ok := tokens.Lookup("d.4"); !ok {
		t.Error("another user's token is gone")
	}
	tokens.Clear()
	if _, ok := tokens.Lookup("d.4"); ok {
		t.Error("a token is left")
	}
}

func TestTokenIndex(t *testing.T) {
	for token, want := range map[string]uint64{SimpleToken(NewPrefix(), 42): 42, "x.0": 0} {
		if got, ok := TokenIndex(token); !ok || got != want {
			t.Errorf("%s: %d, %v", token, got, ok)
		}
	}
	for _, token := range []string{"", "x", ".1", "x.", "x.y", "x.1.2", "x.-1", "x.99999999999999999999"} {
		if _, ok := TokenIndex(token); ok {
			t.Errorf("%q passes for a token", token)
		}
	}
}

// keyFiles writes a key pair as PEM.
func keyFiles(t *testing.T, private, public any) (privateFile, publicFile string) {
	t.Helper()
	dir := t.TempDir()
	write := func(name, kind string, der []byte, err error) string {
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	privateFile = write("key", "PRIVATE KEY", der, err)
	der, err = x509.MarshalPKIXPublicKey(public)
	return privateFile, write("pub", "PUBLIC KEY", der, err)
}

func TestJWT(t *testing.T) {
	rsaKey := must(rsa.GenerateKey(rand.Reader, 2048))
	ecKey := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	edPublic, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(5000, 0)
	for method, pair := range map[string][2]any{
		"RS256": {rsaKey, rsaKey.Public()}, "PS384": {rsaKey, rsaKey.Public()},
		"ES256": {ecKey, ecKey.Public()}, "EdDSA": {edKey, edPublic},
	} {
		private, public := keyFiles(t, pair[0], pair[1])
		both := must(ParseScheme("jwt,sign-method=" + method + ",priv-key=" + private + ",pub-key=" + public + ",ttl=10s")).JWT
		verifier := must(ParseScheme("jwt,sign-method=" + method + ",pub-key=" + public)).JWT
		token, err := both.Sign("me", 7, now)
		if err != nil {
			t.Fatalf("%s: %v", method, err)
		}
		for _, j := range []*JWT{both, verifier} {
			if id, err := j.Identify(token, now.Add(9*time.Second)); err != nil || id != (Identity{"me", 7}) {
				t.Errorf("%s: %v, %v", method, id, err)
			}
			if _, err := j.Identify(token, now.Add(11*time.Second)); !errors.Is(err, ErrInvalidToken) {
				t.Errorf("%s: over: %v", method, err)
			}
			if _, err := j.Identify(token[:len(token)-6]+"AAAAAA", now); !errors.Is(err, ErrInvalidToken) {
				t.Errorf("%s: forged: %v", method, err)
			}
		}
		if _, err := verifier.Sign("me", 7, now); !errors.Is(err, ErrVerifyOnly) {
			t.Errorf("%s: signed by a public key: %v", method, err)
		}
	}
	// A public key must not pass for the secret of another method.
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("s3cret"), 0o600); err != nil {
		t.Fatal(err)
	}
	hmac := must(ParseScheme("jwt,sign-method=HS256,priv-key=" + secret)).JWT
	other := must(ParseScheme("jwt,sign-method=HS512,priv-key=" + secret)).JWT
	token := must(hmac.Sign("me", 1, now))
	if _, err := other.Identify(token, now); !errors.Is(err, ErrInvalidToken) {
		t.Errorf("another method's token: %v", err)
	}
	if id, err := hmac.Identify(token, now); err != nil || id.User != "me" {
		t.Errorf("HMAC: %v, %v", id, err)
	}
}

func TestSchemes(t *testing.T) {
	ecKey := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	otherKey := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	private, public := keyFiles(t, ecKey, otherKey.Public())
	if s, err := ParseScheme("simple"); err != nil || s != (Scheme{}) {
		t.Errorf("simple: %v, %v", s, err)
	}
	if s, err := ParseScheme(""); err != nil || !s.None {
		t.Errorf("none: %v, %v", s, err)
	}
	for value, want := range map[string]error{
		"paper":                                ErrInvalidOptions,
		"jwt":                                  ErrInvalidMethod,
		"jwt,sign-method=XX1":                  ErrInvalidMethod,
		"jwt,sign-method":                      ErrInvalidOptions,
		"jwt,sign-method=ES256,sign-method=E":  ErrInvalidOptions,
		"jwt,sign-method=ES256":                ErrMissingKey,
		"jwt,sign-method=HS256":                ErrMissingKey,
		"jwt,sign-method=ES256,ttl=long":       ErrInvalidOptions,
		"jwt,sign-method=ES256,priv-key=/none": ErrInvalidOptions,
		"jwt,sign-method=ES256,priv-key=" + private + ",pub-key=" + public: ErrKeyMismatch,
	} {
		if _, err := ParseScheme(value); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", strings.ReplaceAll(value, private, "…"), err, want)
		}
	}
}
