package v1alpha1

// AuthSpec has members check users.
type AuthSpec struct {
	// RootCredentialsSecretRef is a Secret with root's password under the key
	// password, as the type kubernetes.io/basic-auth has it; its username, if there
	// is one, is root. The operator makes that user, and gives it another password
	// when the Secret changes.
	RootCredentialsSecretRef SecretRef `json:"rootCredentialsSecretRef"`
}

// AuthStatus is what members say of users.
type AuthStatus struct {
	// Enabled says that members check users.
	Enabled bool `json:"enabled"`
}
