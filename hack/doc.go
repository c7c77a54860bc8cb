// Package hack holds the repository's own checks; it has no code that ships.
//
// The test in this folder keeps the rules of ARCHITECTURE.md: which room may
// import which, and what the top level of the tree consists of.
package hack
