// Package auth owns users, roles and their permissions, and the tokens that
// stand for a user who proved a password.
//
// It promises that a State is immutable: a change makes a new one and stages
// its rows in an engine batch, so that readers need no lock and see the users
// of one revision. A permission is checked over the whole range that a request
// asks for, against the union of what all roles of the user allow. Passwords
// are held as bcrypt hashes only; hashing is the business of who proposes a
// change, never of who applies it. The semantics are those of etcd v3.7.3.
//
// State and its changes are part of the replicated state and read no clock.
// Tokens are not: each member keeps those that it has applied, and forgets them
// when it stops, or when nobody used them for their time to live. state calls
// the changes from apply; rpc identifies callers and checks reads.
package auth
