package auth

import "errors"

// Errors of this package; their texts are etcd's.
var (
	ErrRootUserNotExist     = errors.New("auth: root user does not exist")
	ErrRootRoleNotExist     = errors.New("auth: root user does not have root role")
	ErrUserAlreadyExist     = errors.New("auth: user already exists")
	ErrUserEmpty            = errors.New("auth: user name is empty")
	ErrUserNotFound         = errors.New("auth: user not found")
	ErrRoleAlreadyExist     = errors.New("auth: role already exists")
	ErrRoleNotFound         = errors.New("auth: role not found")
	ErrRoleEmpty            = errors.New("auth: role name is empty")
	ErrPermissionNotGiven   = errors.New("auth: permission not given")
	ErrAuthFailed           = errors.New("auth: authentication failed, invalid user ID or password")
	ErrNoPasswordUser       = errors.New("auth: authentication failed, password was given for no password user")
	ErrPermissionDenied     = errors.New("auth: permission denied")
	ErrRoleNotGranted       = errors.New("auth: role is not granted to the user")
	ErrPermissionNotGranted = errors.New("auth: permission is not granted to the role")
	ErrNotEnabled           = errors.New("auth: authentication is not enabled")
	// ErrOldRevision: users or roles changed after the caller was identified.
	ErrOldRevision  = errors.New("auth: revision in header is old")
	ErrInvalidToken = errors.New("auth: invalid auth token")
	// ErrInvalidMgmt: the change would lock root out, or makes no sense.
	ErrInvalidMgmt = errors.New("auth: invalid auth management")

	ErrInvalidOptions = errors.New("auth: invalid auth options")
	ErrInvalidMethod  = errors.New("auth: invalid auth signature method")
	ErrMissingKey     = errors.New("auth: missing key data")
	ErrKeyMismatch    = errors.New("auth: public and private keys don't match")
	ErrVerifyOnly     = errors.New("auth: token signing attempted with verify-only key")
)

// results are the errors that a change can answer with, the same on every
// member.
var results = []error{
	ErrRootUserNotExist, ErrRootRoleNotExist, ErrUserAlreadyExist, ErrUserEmpty, ErrUserNotFound,
	ErrRoleAlreadyExist, ErrRoleNotFound, ErrRoleEmpty, ErrPermissionNotGiven, ErrAuthFailed,
	ErrNoPasswordUser, ErrPermissionDenied, ErrRoleNotGranted, ErrPermissionNotGranted,
	ErrNotEnabled, ErrOldRevision, ErrInvalidMgmt,
}

// IsResult tells an answer to a request, which is the same on every member,
// from a failure.
func IsResult(err error) bool {
	for _, r := range results {
		if errors.Is(err, r) {
			return true
		}
	}
	return false
}
