package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// TLSMode is what a port accepts.
//
// +kubebuilder:validation:Enum=Disabled;Permissive;Required
type TLSMode string

const (
	// TLSDisabled accepts connections without TLS only.
	TLSDisabled TLSMode = "Disabled"
	// TLSPermissive accepts connections with TLS and without.
	TLSPermissive TLSMode = "Permissive"
	// TLSRequired accepts connections with TLS only.
	TLSRequired TLSMode = "Required"
)

// TLSModes are the modes of both ports. An empty one is Disabled.
type TLSModes struct {
	// +optional
	Client TLSMode `json:"client,omitempty"`
	// +optional
	Peer TLSMode `json:"peer,omitempty"`
}

// TLSSpec says how clients and members speak to members.
type TLSSpec struct {
	// Client is about the port that clients use. Left out, there is no TLS.
	//
	// +optional
	Client *ClientTLS `json:"client,omitempty"`

	// Peer is about the port that the other members use; both sides show a
	// certificate. Left out, there is no TLS.
	//
	// +optional
	Peer *PeerTLS `json:"peer,omitempty"`
}

// ClientCertificates says whether clients have to show a certificate.
//
// +kubebuilder:validation:Enum=Ignored;Required
type ClientCertificates string

const (
	ClientCertificatesIgnored  ClientCertificates = "Ignored"
	ClientCertificatesRequired ClientCertificates = "Required"
)

// ClientTLS is about the port that clients use.
//
// +kubebuilder:validation:XValidation:rule="self.mode == 'Disabled' || has(self.source)",messageExpression="'tls.client.mode is %s but tls.client.source is not set; allowed is one of selfSigned, secretRef and certManager'.format([self.mode])"
// +kubebuilder:validation:XValidation:rule="!has(self.operatorSecretRef) || has(self.source) && has(self.source.secretRef)",message="tls.client.operatorSecretRef is set but tls.client.source.secretRef is not; with another source the operator sees to its own certificate"
// +kubebuilder:validation:XValidation:rule="!has(self.clientCertificates) || self.clientCertificates != 'Required' || !has(self.source) || !has(self.source.secretRef) || has(self.operatorSecretRef)",message="tls.client.clientCertificates is Required with source.secretRef but tls.client.operatorSecretRef is not set; the operator is a client too and needs a certificate that source.secretRef's ca.crt vouches for"
type ClientTLS struct {
	// Mode may be changed at any time. From Disabled to Required and back the
	// members go through Permissive by themselves; clients that are to see no
	// error are moved while the mode is Permissive.
	Mode TLSMode `json:"mode"`

	// Source of the members' certificate.
	//
	// +optional
	Source *TLSSource `json:"source,omitempty"`

	// ClientCertificates says whether clients have to show a certificate of the
	// source's authority; Ignored when left out. A client without TLS, which
	// mode Permissive lets in, has none to show.
	//
	// +optional
	ClientCertificates ClientCertificates `json:"clientCertificates,omitempty"`

	// OperatorSecretRef is the certificate that the operator shows to members, in
	// a Secret with tls.crt and tls.key.
	//
	// +optional
	OperatorSecretRef *SecretRef `json:"operatorSecretRef,omitempty"`
}

// PeerTLS is about the port that the other members use.
//
// +kubebuilder:validation:XValidation:rule="self.mode == 'Disabled' || has(self.source)",messageExpression="'tls.peer.mode is %s but tls.peer.source is not set; allowed is one of selfSigned, secretRef and certManager'.format([self.mode])"
type PeerTLS struct {
	// Mode may be changed at any time. From Disabled to Required and back the
	// members go through Permissive by themselves.
	Mode TLSMode `json:"mode"`

	// Source of the members' certificate, which is shown by both sides. Whoever
	// has one of its authority may join the members' traffic, so that authority
	// had better serve nothing else.
	//
	// +optional
	Source *TLSSource `json:"source,omitempty"`
}

// TLSSource is where certificates come from. It may be changed at any time: the
// members trust the authorities of both for as long as it takes.
//
// +kubebuilder:validation:XValidation:rule="[has(self.selfSigned), has(self.secretRef), has(self.certManager)].filter(x, x).size() == 1",message="a source is to have exactly one of selfSigned, secretRef and certManager"
type TLSSource struct {
	// SelfSigned has the operator keep an authority of its own for this cluster.
	//
	// +optional
	SelfSigned *SelfSigned `json:"selfSigned,omitempty"`

	// SecretRef is a Secret with tls.crt, tls.key and ca.crt, which somebody else
	// keeps; cert-manager writes such.
	//
	// +optional
	SecretRef *SecretRef `json:"secretRef,omitempty"`

	// CertManager has cert-manager issue what is needed: the operator makes the
	// Certificates, with the names that members have.
	//
	// +optional
	CertManager *CertManagerSource `json:"certManager,omitempty"`
}

// CertManagerSource says who issues.
type CertManagerSource struct {
	IssuerRef CertManagerIssuer `json:"issuerRef"`
}

// CertManagerIssuer is an issuer of cert-manager's; its authority has to be in
// the ca.crt that it writes.
type CertManagerIssuer struct {
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// Kind is Issuer when left out.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=63
	Kind string `json:"kind,omitempty"`
	// Group is cert-manager.io when left out.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=253
	Group string `json:"group,omitempty"`
}

// SelfSigned has no settings yet.
type SelfSigned struct{}

// SecretRef names a Secret of the cluster's namespace.
type SecretRef struct {
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}

// TLSStatus is what the operator knows of TLS.
type TLSStatus struct {
	// Modes are what the newest pod template has the members accept.
	//
	// +optional
	Modes TLSModes `json:"modes,omitempty"`

	// Certificates in use, by name.
	//
	// +optional
	// +listType=map
	// +listMapKey=name
	Certificates []CertificateStatus `json:"certificates,omitempty"`
}

// CertificateStatus is one certificate in use.
type CertificateStatus struct {
	// Name is client or peer, for what the members show at these ports; operator
	// for what the operator shows to members; client-ca or peer-ca for the
	// operator's own authorities.
	Name string `json:"name"`
	// NotAfter is when it ends.
	NotAfter metav1.Time `json:"notAfter"`
}
