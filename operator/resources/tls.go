package resources

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"metastore.io/metastore/api/v1alpha1"
)

const (
	certificatesVolume = "tls"
	certificatesDir    = "/etc/metastore/tls"
)

// End is one of the two ports that TLS is about.
type End string

const (
	EndClient End = "client"
	EndPeer   End = "peer"
)

// The keys of an end in the Secret CertificatesName.
func (e End) AuthorityKey() string   { return string(e) + "-ca.crt" }
func (e End) CertificateKey() string { return string(e) + ".crt" }
func (e End) PrivateKey() string     { return string(e) + ".key" }

// ServerNames are the names that the members' certificate for an end has to have:
// of every member, now and later, and for clients also those of the Service.
func ServerNames(c *v1alpha1.MetaStoreCluster, e End) []string {
	peers := PeerServiceName(c.Name) + "." + c.Namespace + ".svc"
	names := []string{"*." + peers, "*." + peers + ".cluster.local"}
	if e == EndPeer {
		return names
	}
	service := ClientHost(c)
	return append(names, ClientServiceName(c.Name), ClientServiceName(c.Name)+"."+c.Namespace, service, service+".cluster.local", "localhost")
}

// Modes reads back the TLS modes of a pod or of a template from its annotations.
func Modes(annotations map[string]string) v1alpha1.TLSModes {
	client, peer, _ := strings.Cut(annotations[AnnotationModes], ".peer-")
	client = strings.TrimPrefix(client, "client-")
	return spelled(v1alpha1.TLSModes{Client: v1alpha1.TLSMode(client), Peer: v1alpha1.TLSMode(peer)})
}

// SettingsFile is the key of a pod's settings in the ConfigMap MembersName, and
// the file that its server reads.
func SettingsFile(pod string, modes v1alpha1.TLSModes) string {
	if modes = spelled(modes); modes.Client == v1alpha1.TLSDisabled && modes.Peer == v1alpha1.TLSDisabled {
		return pod + ".yaml"
	}
	return pod + "." + strings.ToLower(modesText(modes)) + ".yaml"
}

func modesText(m v1alpha1.TLSModes) string { return fmt.Sprintf("client-%s.peer-%s", m.Client, m.Peer) }

// spelled replaces empty modes by what they stand for.
func spelled(m v1alpha1.TLSModes) v1alpha1.TLSModes {
	for _, mode := range []*v1alpha1.TLSMode{&m.Client, &m.Peer} {
		if *mode == "" {
			*mode = v1alpha1.TLSDisabled
		}
	}
	return m
}

func (b Builder) secured() bool { return b.modes != spelled(v1alpha1.TLSModes{}) }

// schemes lists an address as often as a mode accepts it.
func schemes(m v1alpha1.TLSMode, url func(tls bool) string) string {
	switch m {
	case v1alpha1.TLSPermissive:
		return url(false) + "," + url(true)
	case v1alpha1.TLSRequired:
		return url(true)
	}
	return url(false)
}

// tlsSettings are the files that certificates are read from at each handshake;
// their content changes without a restart.
type tlsSettings struct {
	ListenMetricsURLs string `json:"listen-metrics-urls,omitempty"`

	CertFile       string `json:"cert-file,omitempty"`
	KeyFile        string `json:"key-file,omitempty"`
	TrustedCAFile  string `json:"trusted-ca-file,omitempty"`
	ClientCertAuth bool   `json:"client-cert-auth,omitempty"`

	PeerCertFile       string `json:"peer-cert-file,omitempty"`
	PeerKeyFile        string `json:"peer-key-file,omitempty"`
	PeerTrustedCAFile  string `json:"peer-trusted-ca-file,omitempty"`
	PeerClientCertAuth bool   `json:"peer-client-cert-auth,omitempty"`
	// PeerSkipClientSAN: a pod's address is not in DNS at the moment at which it
	// first calls the others, and its authority serves this cluster only.
	PeerSkipClientSAN bool `json:"peer-skip-client-san-verification,omitempty"`
}

func (b Builder) tls() tlsSettings {
	var s tlsSettings
	file := func(key string) string { return certificatesDir + "/" + key }
	if b.modes.Client != v1alpha1.TLSDisabled {
		s.ListenMetricsURLs = url("0.0.0.0", HealthPort, false)
		s.CertFile, s.KeyFile = file(EndClient.CertificateKey()), file(EndClient.PrivateKey())
		if t := b.cluster.Spec.TLS; t != nil && t.Client != nil && t.Client.ClientCertificates == v1alpha1.ClientCertificatesRequired {
			s.TrustedCAFile, s.ClientCertAuth = file(EndClient.AuthorityKey()), true
		}
	}
	if b.modes.Peer != v1alpha1.TLSDisabled {
		s.PeerCertFile, s.PeerKeyFile = file(EndPeer.CertificateKey()), file(EndPeer.PrivateKey())
		s.PeerTrustedCAFile, s.PeerClientCertAuth, s.PeerSkipClientSAN = file(EndPeer.AuthorityKey()), true, true
	}
	return s
}

func (b Builder) volumes() []corev1.Volume {
	volumes := []corev1.Volume{b.settingsSource()}
	if !b.secured() {
		return volumes
	}
	mode := int32(0o440)
	return append(volumes, corev1.Volume{Name: certificatesVolume, VolumeSource: corev1.VolumeSource{
		Secret: &corev1.SecretVolumeSource{SecretName: CertificatesName(b.cluster.Name), DefaultMode: &mode},
	}})
}

func (b Builder) mounts() []corev1.VolumeMount {
	mounts := []corev1.VolumeMount{
		{Name: DataVolume, MountPath: volumeDir},
		{Name: settingsVolume, MountPath: settingsDir, ReadOnly: true},
	}
	if b.secured() {
		mounts = append(mounts, corev1.VolumeMount{Name: certificatesVolume, MountPath: certificatesDir, ReadOnly: true})
	}
	return mounts
}

// healthPort is the port that probes ask: a kubelet has no certificate to show,
// and does not look at the one that it is shown.
func (b Builder) healthPort() string {
	if b.modes.Client != v1alpha1.TLSDisabled {
		return "health"
	}
	return "client"
}

func (b Builder) ports() []corev1.ContainerPort {
	ports := []corev1.ContainerPort{
		{Name: "client", ContainerPort: ClientPort, Protocol: corev1.ProtocolTCP},
		{Name: "peer", ContainerPort: PeerPort, Protocol: corev1.ProtocolTCP},
	}
	if b.modes.Client != v1alpha1.TLSDisabled {
		ports = append(ports, corev1.ContainerPort{Name: "health", ContainerPort: HealthPort, Protocol: corev1.ProtocolTCP})
	}
	return ports
}
