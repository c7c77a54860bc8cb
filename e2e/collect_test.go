package e2e

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// collectOnFailure keeps, for a failed spec, what a person would ask for
// first: objects, events and logs of the namespace, and the operator's log.
func (e *environment) collectOnFailure(ctx context.Context, namespace string) {
	if !CurrentSpecReport().Failed() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	name := regexp.MustCompile(`[^a-zA-Z0-9]+`).ReplaceAllString(CurrentSpecReport().FullText(), "-")
	dir := filepath.Join(e.logs, strings.Trim(name, "-"))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		GinkgoWriter.Printf("logs are not kept: %v\n", err)
		return
	}
	e.keep(ctx, dir, "objects.txt", "-n", namespace, "get", "metastoreclusters,metastorebackups,metastorebackupschedules,all,pvc,configmaps,pdb,endpointslices", "-o", "wide")
	e.keep(ctx, dir, "nodes.txt", "get", "nodes", "-o", "wide")
	e.keep(ctx, dir, "clusters.yaml", "-n", namespace, "get", "metastoreclusters", "-o", "yaml")
	e.keep(ctx, dir, "describe.txt", "-n", namespace, "describe", "metastoreclusters,metastorebackups,statefulsets,jobs,pods,pvc")
	e.keep(ctx, dir, "events.txt", "-n", namespace, "get", "events", "--sort-by=.lastTimestamp")
	e.keep(ctx, dir, "operator.log", "-n", e.operator.Namespace, "logs", "deployment/"+e.operator.Name, "--timestamps")
	var pods corev1.PodList
	if err := e.client.List(ctx, &pods, client.InNamespace(namespace)); err != nil {
		GinkgoWriter.Printf("pods' logs are not kept: %v\n", err)
	}
	for _, pod := range pods.Items {
		e.keep(ctx, dir, pod.Name+".log", "-n", namespace, "logs", pod.Name, "--all-containers", "--timestamps")
		e.keep(ctx, dir, pod.Name+"-previous.log", "-n", namespace, "logs", pod.Name, "--all-containers", "--timestamps", "--previous")
	}
	GinkgoWriter.Printf("objects, events and logs are kept in %s\n", dir)
}

// keep writes what kubectl prints, also when that is an error.
func (e *environment) keep(ctx context.Context, dir, file string, args ...string) {
	out, err := e.kube(ctx, "", append([]string{"--request-timeout=10s"}, args...)...)
	if err != nil {
		out = err.Error()
	}
	if err := os.WriteFile(filepath.Join(dir, file), []byte(out), 0o644); err != nil {
		GinkgoWriter.Printf("%s is not kept: %v\n", file, err)
	}
}
