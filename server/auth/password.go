package auth

import (
	"encoding/base64"

	"golang.org/x/crypto/bcrypt"
)

// Cost returns the bcrypt cost to use for a wanted one: bcrypt's default where
// bcrypt does not know it, as etcd does.
func Cost(wanted int) int {
	if wanted < bcrypt.MinCost || wanted > bcrypt.MaxCost {
		return bcrypt.DefaultCost
	}
	return wanted
}

// HashPassword makes the hash of a password as requests carry it: bcrypt's, in
// base64. It takes long, as it has to.
func HashPassword(password string, cost int) (string, error) {
	hash, err := bcrypt.GenerateFromPassword([]byte(password), cost)
	if err != nil {
		return "", err
	}
	return base64.StdEncoding.EncodeToString(hash), nil
}

// CheckPassword says whether a user has a password, at the state's revision.
// It takes long, as it has to.
func (s *State) CheckPassword(user, password string) error {
	if !s.enabled {
		return ErrNotEnabled
	}
	u, ok := s.users[user]
	if !ok {
		return ErrAuthFailed
	}
	if u.Options.GetNoPassword() {
		return ErrNoPasswordUser
	}
	if bcrypt.CompareHashAndPassword(u.Password, []byte(password)) != nil {
		return ErrAuthFailed
	}
	return nil
}

// CheckAuthenticated says whether a user whose password was checked before may
// have a token still.
func (s *State) CheckAuthenticated(user string) error {
	if !s.enabled {
		return ErrNotEnabled
	}
	if u, ok := s.users[user]; !ok || u.Options.GetNoPassword() {
		return ErrAuthFailed
	}
	return nil
}
