package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const clientPort = 2379

// serviceClient returns an unchanged etcd client on the client Service. Where
// Service addresses cannot be dialled from here, each connection goes through
// the API server to one ready pod behind the Service.
func (c *cluster) serviceClient(ctx context.Context) *clientv3.Client {
	GinkgoHelper()
	return newClient(c.serviceAddress(ctx))
}

// serviceAddress is where the client Service is, and how to get there; dial is
// nil where its address can be dialled.
func (c *cluster) serviceAddress(ctx context.Context) (address string, dial func(context.Context, string) (net.Conn, error)) {
	GinkgoHelper()
	var service corev1.Service
	Expect(c.env.client.Get(ctx, c.key, &service)).To(Succeed())
	if c.env.direct {
		return net.JoinHostPort(service.Spec.ClusterIP, fmt.Sprint(clientPort)), nil
	}
	return fmt.Sprintf("%s:%d", service.Name, clientPort), func(ctx context.Context, _ string) (net.Conn, error) {
		pod, err := c.readyPodBehind(ctx, service)
		if err != nil {
			return nil, err
		}
		return c.env.forward(ctx, c.key.Namespace, pod)
	}
}

// dialPod dials the pod that an address NAME:PORT names, wherever it is now: what
// the cluster's DNS does for clients inside.
func (c *cluster) dialPod(ctx context.Context, address string) (net.Conn, error) {
	name, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if !c.env.direct {
		return c.env.forward(ctx, c.key.Namespace, name)
	}
	var pod corev1.Pod
	if err := c.env.client.Get(ctx, client.ObjectKey{Namespace: c.key.Namespace, Name: name}, &pod); err != nil {
		return nil, err
	}
	if pod.Status.PodIP == "" {
		return nil, fmt.Errorf("pod %s has no address yet", name) // the empty one would be ours
	}
	return (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(pod.Status.PodIP, port))
}

// memberClient returns an etcd client on the member of one pod and nothing else.
func (c *cluster) memberClient(ctx context.Context, ordinal int) *clientv3.Client {
	GinkgoHelper()
	if c.env.direct {
		return newClient(net.JoinHostPort(c.pod(ctx, ordinal).Status.PodIP, fmt.Sprint(clientPort)), nil)
	}
	name := c.podName(ordinal)
	return newClient(fmt.Sprintf("%s:%d", name, clientPort), func(ctx context.Context, _ string) (net.Conn, error) {
		return c.env.forward(ctx, c.key.Namespace, name)
	})
}

// newClient closes itself after the spec. It notices a dead peer within
// seconds, since the specs kill peers.
func newClient(address string, dial func(context.Context, string) (net.Conn, error)) *clientv3.Client {
	GinkgoHelper()
	quick := backoff.DefaultConfig
	quick.MaxDelay = time.Second
	options := []grpc.DialOption{grpc.WithConnectParams(grpc.ConnectParams{Backoff: quick, MinConnectTimeout: 3 * time.Second})}
	if dial != nil {
		options = append(options, grpc.WithContextDialer(dial))
	}
	return clientOf(clientv3.Config{
		Endpoints: []string{"http://" + address}, DialOptions: options,
		DialKeepAliveTime: 10 * time.Second, DialKeepAliveTimeout: 3 * time.Second,
	})
}

func (c *cluster) readyPodBehind(ctx context.Context, service corev1.Service) (string, error) {
	var pods corev1.PodList
	err := c.env.client.List(ctx, &pods, client.InNamespace(service.Namespace), client.MatchingLabels(service.Spec.Selector))
	if err != nil {
		return "", err
	}
	for _, pod := range pods.Items {
		if podReady(pod) {
			return pod.Name, nil
		}
	}
	return "", fmt.Errorf("no ready pod behind service %s", service.Name)
}

// forward opens one connection to a pod's client port through the API server.
func (e *environment) forward(ctx context.Context, namespace, pod string) (net.Conn, error) {
	transport, upgrader, err := spdy.RoundTripperFor(e.config)
	if err != nil {
		return nil, err
	}
	url := e.clientset.CoreV1().RESTClient().Post().Resource("pods").Namespace(namespace).Name(pod).SubResource("portforward").URL()
	dialer := spdy.NewDialer(upgrader, &http.Client{Transport: transport}, http.MethodPost, url)
	stop, ready := make(chan struct{}), make(chan struct{})
	forwarder, err := portforward.NewOnAddresses(dialer, []string{"127.0.0.1"}, []string{fmt.Sprintf(":%d", clientPort)}, stop, ready, io.Discard, io.Discard)
	if err != nil {
		return nil, err
	}
	ended := make(chan struct{})
	var endedWith error // written before ended is closed
	go func() {
		endedWith = forwarder.ForwardPorts()
		close(ended)
	}()
	select {
	case <-ready:
	case <-ended:
		return nil, fmt.Errorf("forward to pod %s: %w", pod, endedWith)
	case <-ctx.Done():
		close(stop)
		return nil, ctx.Err()
	}
	ports, err := forwarder.GetPorts()
	if err != nil {
		close(stop)
		return nil, err
	}
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", ports[0].Local))
	if err != nil {
		close(stop)
		return nil, err
	}
	go func() {
		<-ended // the pod is gone, or the connection was closed here
		_ = conn.Close()
	}()
	return &forwardedConn{Conn: conn, stop: stop}, nil
}

// forwardedConn ends its forwarding when it is closed, once.
type forwardedConn struct {
	net.Conn
	stop chan struct{}
}

func (f *forwardedConn) Close() error {
	err := f.Conn.Close()
	select {
	case <-f.stop:
	default:
		close(f.stop)
	}
	return err
}

// expectSameData waits until every member holds the same revision of the same
// bytes, by the hash that etcd's own checks use.
func (c *cluster) expectSameData(ctx context.Context, replicas int) {
	GinkgoHelper()
	var members []*clientv3.Client
	for ordinal := range replicas {
		members = append(members, c.memberClient(ctx, ordinal))
	}
	Eventually(func(g Gomega, ctx context.Context) {
		var seen []string
		for ordinal, member := range members {
			callCtx, cancel := context.WithTimeout(ctx, 10*time.Second)
			hash, err := member.HashKV(callCtx, member.Endpoints()[0], 0)
			cancel()
			g.Expect(err).NotTo(HaveOccurred(), "member %d", ordinal)
			seen = append(seen, fmt.Sprintf("revision %d, hash %08x", hash.HashRevision, hash.Hash))
		}
		g.Expect(slices.Compact(slices.Clone(seen))).To(HaveLen(1), "members differ: %s", strings.Join(seen, "; "))
	}).WithContext(ctx).WithTimeout(progressTimeout).Should(Succeed())
}
