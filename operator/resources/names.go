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

// PeerURL is where the other members reach the one at an ordinal.
func PeerURL(c *v1alpha1.MetaStoreCluster, ordinal int) string { return url(c, ordinal, PeerPort) }

// ClientURL is where clients reach the member at an ordinal; the Service of ready members is ClientEndpoint.
func ClientURL(c *v1alpha1.MetaStoreCluster, ordinal int) string { return url(c, ordinal, ClientPort) }

// ClientEndpoint is the URL of the client Service.
func ClientEndpoint(c *v1alpha1.MetaStoreCluster) string {
	return fmt.Sprintf("http://%s.%s.svc:%d", ClientServiceName(c.Name), c.Namespace, ClientPort)
}

func url(c *v1alpha1.MetaStoreCluster, ordinal, port int) string {
	return fmt.Sprintf("http://%s.%s.%s.svc:%d", PodName(c.Name, ordinal), PeerServiceName(c.Name), c.Namespace, port)
}
