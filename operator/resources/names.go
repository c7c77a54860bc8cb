package resources

import (
	"fmt"
	"strconv"
	"strings"

	"metastore.io/metastore/api/v1alpha1"
)

// DataVolume is the name of a member's volume in its pod and of its claim template.
const DataVolume = "data"

// SetName is the name of the StatefulSet.
func SetName(cluster string) string { return cluster }

// ClientServiceName is the Service that clients use.
func ClientServiceName(cluster string) string { return cluster }

// PeerServiceName is the headless Service that gives each member its name.
func PeerServiceName(cluster string) string { return cluster + "-peers" }

// MembersName is the ConfigMap with each member's start-up settings.
func MembersName(cluster string) string { return cluster + "-members" }

// CertificatesName is the Secret with the certificates that members use.
func CertificatesName(cluster string) string { return cluster + "-tls" }

// ClientSecretName is the Secret with a certificate for clients, and the
// authority that vouches for the members'.
func ClientSecretName(cluster string) string { return cluster + "-client-tls" }

// AuthorityName is the Secret with the keys of the operator's own authorities.
func AuthorityName(cluster string) string { return cluster + "-ca" }

// CredentialsName is the Secret in which the operator keeps root's password, as
// members know it.
func CredentialsName(cluster string) string { return cluster + "-auth" }

// BudgetName is the PodDisruptionBudget.
func BudgetName(cluster string) string { return cluster }

// PodName is the pod, and the member, at an ordinal.
func PodName(cluster string, ordinal int) string { return cluster + "-" + strconv.Itoa(ordinal) }

// ClaimName is the claim of the member at an ordinal.
func ClaimName(cluster string, ordinal int) string {
	return DataVolume + "-" + PodName(cluster, ordinal)
}

// Ordinal is the inverse of PodName; ok is false for a pod of another making.
func Ordinal(cluster, pod string) (ordinal int, ok bool) {
	digits, ours := strings.CutPrefix(pod, cluster+"-")
	n, err := strconv.Atoi(digits)
	if !ours || err != nil || n < 0 || strconv.Itoa(n) != digits {
		return 0, false
	}
	return n, true
}

// PeerURL is where the other members reach the one at an ordinal, with TLS or without.
func PeerURL(c *v1alpha1.MetaStoreCluster, ordinal int, tls bool) string {
	return url(MemberHost(c, ordinal), PeerPort, tls)
}

// ClientURL is where clients reach the member at an ordinal; the Service of ready members is ClientEndpoint.
func ClientURL(c *v1alpha1.MetaStoreCluster, ordinal int, tls bool) string {
	return url(MemberHost(c, ordinal), ClientPort, tls)
}

// ClientEndpoint is the URL of the client Service.
func ClientEndpoint(c *v1alpha1.MetaStoreCluster, tls bool) string {
	return url(ClientHost(c), ClientPort, tls)
}

// MemberHost is the name of the member at an ordinal.
func MemberHost(c *v1alpha1.MetaStoreCluster, ordinal int) string {
	return fmt.Sprintf("%s.%s.%s.svc", PodName(c.Name, ordinal), PeerServiceName(c.Name), c.Namespace)
}

// ClientHost is the name of the client Service.
func ClientHost(c *v1alpha1.MetaStoreCluster) string {
	return fmt.Sprintf("%s.%s.svc", ClientServiceName(c.Name), c.Namespace)
}

func url(host string, port int, tls bool) string {
	if tls {
		return fmt.Sprintf("https://%s:%d", host, port)
	}
	return fmt.Sprintf("http://%s:%d", host, port)
}
