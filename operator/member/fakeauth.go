package member

import (
	"context"
	"errors"
	"slices"
)

// fakeUsers is what the fake knows of users.
type fakeUsers struct {
	enabled  bool
	password string
	// offered are the passwords that the operator has.
	offered []string
}

// SignIn tells the fake with which passwords the calls to come are made.
func (f *Fake) SignIn(passwords []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.users.offered = passwords
}

// SetUsers is what somebody else does to the users.
func (f *Fake) SetUsers(enabled bool, password string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.users.enabled, f.users.password = enabled, password
}

// Users tells whether users are checked, and root's password.
func (f *Fake) Users() (enabled bool, password string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.users.enabled, f.users.password
}

func (f *Fake) signedIn() bool {
	return !f.users.enabled || slices.Contains(f.users.offered, f.users.password)
}

// guard is a look's answer to whom members let in.
func (f *Fake) guard(v View, endpoints []string) View {
	v.Auth = Auth{Known: v.ListErr == nil, Enabled: f.users.enabled}
	if f.users.enabled && f.signedIn() {
		v.Auth.Password = f.users.password
	}
	if f.signedIn() {
		return v
	}
	refused := View{Status: map[string]Status{}, Errs: map[string]error{}, Auth: v.Auth, ListErr: errors.New("user name is empty")}
	for _, e := range endpoints {
		refused.Errs[e] = refused.ListErr
	}
	return refused
}

// EnableAuth implements Access.
func (f *Fake) EnableAuth(_ context.Context, _ []string, password string) error {
	return f.changeUsers("enable auth", fakeUsers{enabled: true, password: password})
}

// DisableAuth implements Access.
func (f *Fake) DisableAuth(context.Context, []string) error {
	return f.changeUsers("disable auth", fakeUsers{password: f.users.password})
}

// ChangePassword implements Access.
func (f *Fake) ChangePassword(_ context.Context, _ []string, password string) error {
	return f.changeUsers("change password", fakeUsers{enabled: true, password: password})
}

func (f *Fake) changeUsers(call string, to fakeUsers) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.may(call); err != nil {
		return err
	}
	if !f.signedIn() {
		return errors.New("permission denied")
	}
	f.note("%s", call)
	to.offered = f.users.offered
	f.users = to
	return nil
}
