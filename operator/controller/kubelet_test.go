package controller

import (
	"context"
	"path/filepath"
	"strings"
	"sync"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/yaml"

	"metastore.io/metastore/operator/member"
	"metastore.io/metastore/operator/resources"
)

const (
	nodeName = "node-1"
	// tick is how often the kubelet looks at a pod, as a probe does.
	tick = 100 * time.Millisecond
	// missingTag is that of images that cannot be pulled.
	missingTag = ":missing"
	// imageMissing is for a container that was never started.
	imageMissing member.Exit = -1
)

// kubelet is the scheduler, the provisioner and the kubelet of the suite: it
// binds pods and claims, runs a faked server in each pod, and ends pods that are
// being deleted. Its processes read their settings as real ones do, from the
// ConfigMap at their start.
type kubelet struct {
	client client.Client

	mu sync.Mutex
	// fakes are the clusters, by namespace and name.
	fakes map[string]*member.Fake
	// held are pods that the kubelet leaves alone, as one on a silent node.
	held map[types.UID]bool
	// commands are what Jobs run, by namespace.
	commands map[string]command
}

// fake returns the members of a cluster, made when they are first asked for:
// they outlive every object in the API server, as data on volumes does.
func (k *kubelet) fake(namespace, cluster string) *member.Fake {
	k.mu.Lock()
	defer k.mu.Unlock()
	key := namespace + "/" + cluster
	if k.fakes[key] == nil {
		k.fakes[key] = member.NewFake()
	}
	return k.fakes[key]
}

func (k *kubelet) hold(pod *corev1.Pod, on bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.held[pod.UID] = on
}

func (k *kubelet) holds(pod *corev1.Pod) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.held[pod.UID]
}

func startKubelet() *kubelet {
	k := &kubelet{fakes: map[string]*member.Fake{}, held: map[types.UID]bool{}, commands: map[string]command{}}
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme: scheme, Metrics: metricsserver.Options{BindAddress: "0"},
	})
	Expect(err).NotTo(HaveOccurred())
	k.client = mgr.GetClient()
	Expect(ctrl.NewControllerManagedBy(mgr).Named("kubelet").For(&corev1.Pod{}).
		WithOptions(controller.Options{MaxConcurrentReconciles: 4}).Complete(k)).To(Succeed())
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	DeferCleanup(func() {
		cancel()
		Expect(<-ended).To(Succeed())
	})
	return k
}

// Reconcile brings one pod one step on, and comes back with the next tick.
func (k *kubelet) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	again := ctrl.Result{RequeueAfter: tick}
	pod := &corev1.Pod{}
	if err := k.client.Get(ctx, req.NamespacedName, pod); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if k.holds(pod) {
		return again, nil
	}
	if pod.Labels[labelComponent] != resources.ComponentMember {
		return again, k.runJob(ctx, pod)
	}
	cluster := pod.Labels[labelInstance]
	fake := k.fake(pod.Namespace, cluster)
	switch {
	case pod.DeletionTimestamp != nil:
		fake.Stop(pod.Name)
		return ctrl.Result{}, client.IgnoreNotFound(k.client.Delete(ctx, pod, client.GracePeriodSeconds(0)))
	case pod.Spec.NodeName == "":
		binding := &corev1.Binding{Target: corev1.ObjectReference{Kind: "Node", Name: nodeName}}
		return again, client.IgnoreNotFound(k.client.SubResource("binding").Create(ctx, pod, binding))
	}
	volume, ok, err := k.mount(ctx, pod)
	if err != nil || !ok {
		return again, err
	}
	if strings.HasSuffix(pod.Spec.Containers[0].Image, missingTag) {
		return again, k.tell(ctx, pod, imageMissing, false)
	}
	exit := member.Running
	if !fake.Alive(pod.Name) {
		fake.Stop(pod.Name)
		if exit, err = k.startServer(ctx, fake, pod, cluster, volume); err != nil {
			return again, err
		}
	}
	return again, k.tell(ctx, pod, exit, fake.Ready(pod.Name))
}

// mount binds the pod's claim, lets it grow, and returns the identity of its volume.
func (k *kubelet) mount(ctx context.Context, pod *corev1.Pod) (volume string, ok bool, err error) {
	claim := &corev1.PersistentVolumeClaim{}
	key := client.ObjectKey{Namespace: pod.Namespace, Name: resources.DataVolume + "-" + pod.Name}
	if err := k.client.Get(ctx, key, claim); err != nil {
		return "", false, client.IgnoreNotFound(err)
	}
	if class := claim.Spec.StorageClassName; class != nil {
		if err := k.client.Get(ctx, client.ObjectKey{Name: *class}, &storagev1.StorageClass{}); err != nil {
			return "", false, client.IgnoreNotFound(err)
		}
	}
	want := claim.Spec.Resources.Requests.Storage()
	if claim.Status.Phase != corev1.ClaimBound || claim.Status.Capacity.Storage().Cmp(*want) < 0 {
		claim.Status.Phase = corev1.ClaimBound
		claim.Status.Capacity = corev1.ResourceList{corev1.ResourceStorage: *want}
		if err := k.client.Status().Update(ctx, claim); err != nil {
			return "", false, ignoreRaces(err)
		}
	}
	return string(claim.UID), true, nil
}

// startServer starts a server with the settings that are written for it; without
// any it ends at once, as the real one does.
func (k *kubelet) startServer(ctx context.Context, fake *member.Fake, pod *corev1.Pod, cluster, volume string) (member.Exit, error) {
	settings := &corev1.ConfigMap{}
	err := k.client.Get(ctx, client.ObjectKey{Namespace: pod.Namespace, Name: resources.MembersName(cluster)}, settings)
	if err != nil {
		return member.ExitOther, client.IgnoreNotFound(err)
	}
	var file struct {
		State string `json:"initial-cluster-state"`
		Peer  string `json:"initial-advertise-peer-urls"`
		Force string `json:"force-new-cluster-once"`
		Ports string `json:"listen-peer-urls"`
		Quota int64  `json:"quota-backend-bytes"`
		Token string `json:"initial-cluster-token"`
	}
	arguments := pod.Spec.Containers[0].Command
	name := filepath.Base(strings.Replace(arguments[len(arguments)-1], "$(POD_NAME)", pod.Name, 1))
	text, ok := settings.Data[name]
	if !ok {
		return member.ExitOther, nil
	}
	if err := yaml.Unmarshal([]byte(text), &file); err != nil {
		return member.ExitOther, err
	}
	if exit := fake.Token(volume, file.Token); exit != member.Running {
		return exit, nil
	}
	fake.Speaks(pod.Name, strings.Contains(file.Ports, "http:"), strings.Contains(file.Ports, "https:"))
	exit := fake.Start(pod.Name, volume, file.Peer, file.State == "new", file.Force)
	if exit == member.Running {
		fake.Quota(pod.Name, file.Quota)
	}
	return exit, nil
}

// tell writes the pod's status when it has changed.
func (k *kubelet) tell(ctx context.Context, pod *corev1.Pod, exit member.Exit, ready bool) error {
	old := pod.DeepCopy()
	now := metav1.Now()
	status := corev1.ContainerStatus{Name: resources.Container, Image: "test", ImageID: "test", Ready: ready, Started: ptr.To(exit == member.Running)}
	switch exit {
	case member.Running:
		status.State.Running = &corev1.ContainerStateRunning{}
	case imageMissing:
		status.State.Waiting = &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff"}
	default:
		status.State.Waiting = &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}
		status.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{ExitCode: int32(exit), Reason: "Error"}
	}
	pod.Status.Phase = corev1.PodRunning
	pod.Status.PodIP = "10.0.0.1"
	pod.Status.PodIPs = []corev1.PodIP{{IP: "10.0.0.1"}}
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{status}
	if pod.Status.StartTime == nil {
		pod.Status.StartTime = &now
	}
	want := corev1.ConditionFalse
	if ready {
		want = corev1.ConditionTrue
	}
	if c := podCondition(pod, corev1.PodReady); c == nil {
		pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: corev1.PodReady, Status: want, LastTransitionTime: now})
	} else if c.Status != want {
		c.Status, c.LastTransitionTime = want, now
	}
	if equality.Semantic.DeepEqual(old.Status, pod.Status) {
		return nil
	}
	return ignoreRaces(k.client.Status().Patch(ctx, pod, client.MergeFrom(old)))
}

// ignoreRaces lets the next tick see what somebody else has changed meanwhile.
func ignoreRaces(err error) error {
	if passing(err) {
		return nil
	}
	return client.IgnoreNotFound(err)
}
