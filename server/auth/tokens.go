package auth

import (
	"crypto/rand"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
)

// DefaultTokenTTL is how long a simple token lives unused, as in etcd.
const DefaultTokenTTL = 300 * time.Second

// sweepInterval is how often tokens that are over are looked for.
const sweepInterval = time.Second

// Tokens are the simple tokens that this member has applied. They are no part
// of the replicated state: a member that starts, or that gets a snapshot in the
// place of entries, does not know the earlier ones, and their holders have to
// authenticate again. All methods may run concurrently.
type Tokens struct {
	ttl time.Duration
	now func() time.Time

	mu     sync.Mutex
	tokens map[string]*simpleToken
	swept  time.Time
}

type simpleToken struct {
	user     string
	deadline time.Time
}

// NewTokens makes an empty set. A TTL that is not positive means the default.
func NewTokens(ttl time.Duration, now func() time.Time) *Tokens {
	if ttl <= 0 {
		ttl = DefaultTokenTTL
	}
	return &Tokens{ttl: ttl, now: now, tokens: map[string]*simpleToken{}, swept: now()}
}

// NewPrefix makes the secret part of a simple token: what nobody can guess.
func NewPrefix() string { return rand.Text() }

// SimpleToken is the token of a prefix whose request was applied at an index.
func SimpleToken(prefix string, index uint64) string { return fmt.Sprintf("%s.%d", prefix, index) }

// TokenIndex is the index that a simple token was applied at: a member that has
// not applied it cannot know the token. ok is false for what is none.
func TokenIndex(token string) (index uint64, ok bool) {
	prefix, rest, found := strings.Cut(token, ".")
	index, err := strconv.ParseUint(rest, 10, 64)
	return index, found && prefix != "" && err == nil
}

// Assign makes a token stand for a user.
func (t *Tokens) Assign(token, user string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	t.tokens[token] = &simpleToken{user: user, deadline: now.Add(t.ttl)}
	if now.Sub(t.swept) < sweepInterval {
		return
	}
	t.swept = now
	for token, s := range t.tokens {
		if now.After(s.deadline) {
			delete(t.tokens, token)
		}
	}
}

// Lookup finds the user of a token and gives the token its whole time again.
func (t *Tokens) Lookup(token string) (user string, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s, ok := t.tokens[token]
	if !ok {
		return "", false
	}
	now := t.now()
	if now.After(s.deadline) {
		delete(t.tokens, token)
		return "", false
	}
	s.deadline = now.Add(t.ttl)
	return s.user, true
}

// Forget drops the tokens of a user.
func (t *Tokens) Forget(user string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for token, s := range t.tokens {
		if s.user == user {
			delete(t.tokens, token)
		}
	}
}

// Clear drops all tokens.
func (t *Tokens) Clear() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.tokens)
}
