package controller

import (
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"metastore.io/metastore/api/v1alpha1"
	"metastore.io/metastore/operator/member"
	"metastore.io/metastore/operator/resources"
)

func testCluster() *v1alpha1.MetaStoreCluster {
	return &v1alpha1.MetaStoreCluster{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "x", UID: "u"},
		Spec:       v1alpha1.MetaStoreClusterSpec{Replicas: 3, Engine: v1alpha1.EngineMemory},
	}
}

// defaulted is a StatefulSet as an API server would give it back.
func defaulted(replicas int) *appsv1.StatefulSet {
	live := stamped(resources.For(testCluster(), "image:1", v1alpha1.EffectiveTuning{}).StatefulSet(replicas))
	live.TypeMeta = metav1.TypeMeta{}
	live.UID, live.ResourceVersion, live.CreationTimestamp = "s", "7", metav1.Now()
	live.Status.Replicas = 3
	live.Spec.Template.Spec.SchedulerName = "default-scheduler"
	live.Spec.Template.Spec.Containers[0].TerminationMessagePath = "/dev/termination-log"
	return live
}

func TestDiffersSeesWishesAndDriftOnly(t *testing.T) {
	wanted := stamped(resources.For(testCluster(), "image:1", v1alpha1.EffectiveTuning{}).StatefulSet(1))
	other := stamped(resources.For(testCluster(), "image:2", v1alpha1.EffectiveTuning{}).StatefulSet(1))
	drifted := defaulted(3)
	drifted.Spec.Template.Spec.Containers[0].Ports[0].ContainerPort++
	rewritten := defaulted(3)
	rewritten.Spec.Template.Spec.Containers[0].Image = "mirror.test/image:1"
	labelled := defaulted(3)
	labelled.Labels["team"] = "a"
	for _, c := range []struct {
		name   string
		wanted *appsv1.StatefulSet
		live   *appsv1.StatefulSet
		want   bool
	}{
		{"nothing is there", wanted, nil, true},
		{"the same, with defaults and other replicas", wanted, defaulted(3), false},
		{"another image is wished for", other, defaulted(3), true},
		{"somebody changed a port", wanted, drifted, true},
		{"a webhook rewrote the image", wanted, rewritten, false},
		{"somebody added a label", wanted, labelled, false},
	} {
		if got := differs(c.wanted, c.live); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestPodFactsOfACrashLoop(t *testing.T) {
	since := metav1.NewTime(time.Unix(1000, 0))
	ended := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 3}}
	pod := &corev1.Pod{Status: corev1.PodStatus{
		Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionFalse, LastTransitionTime: since}},
		ContainerStatuses: []corev1.ContainerStatus{
			{Name: "sidecar", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}},
			{
				Name:                 resources.Container,
				State:                corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}},
				LastTerminationState: ended,
			},
		},
	}}
	f := podFacts(pod)
	if f.Running || f.Ready || f.ExitCode != 3 || f.Waiting != "CrashLoopBackOff" || !f.ReadyChangedAt.Equal(since.Time) {
		t.Errorf("waiting: %+v", f)
	}
	pod.Status.ContainerStatuses[1].State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}
	if f := podFacts(pod); !f.Running || f.ExitCode != 0 {
		t.Errorf("running again, an old end counts no more: %+v", f)
	}
	pod.Status.ContainerStatuses[1].State = ended
	if f := podFacts(pod); f.ExitCode != 3 {
		t.Errorf("just ended: %+v", f)
	}
}

func TestMembersAreJoinedByPeerURL(t *testing.T) {
	o := &observation{cluster: testCluster()}
	for _, c := range []struct {
		url  string
		want int
	}{
		{"http://x-2.x-peers.ns.svc:2380", 2},
		{"https://x-2.x-peers.ns.svc:2380", 2},
		{"http://x-2.x-peers.other.svc:2380", -1},
		{"http://y-2.x-peers.ns.svc:2380", -1},
		{"http://x-02.x-peers.ns.svc:2380", -1},
		{"http://10.0.0.1:2380", -1},
		{"::", -1},
	} {
		got, secure := o.ordinalOf(member.Member{Name: "x-0", PeerURLs: []string{c.url}})
		if got != c.want || secure != strings.HasPrefix(c.url, "https:") {
			t.Errorf("%s: %d, want %d; https %v", c.url, got, c.want, secure)
		}
	}
}

func TestTheLeaderIsWhomTheHighestTermFollows(t *testing.T) {
	o := &observation{view: member.View{Status: map[string]member.Status{
		"old": {RaftTerm: 3, Leader: 9}, "cut": {RaftTerm: 4}, "new": {RaftTerm: 4, Leader: 7},
	}}}
	if got := o.leader(); got != 7 {
		t.Errorf("leader %d", got)
	}
}

func TestVersionsCompareByNumbers(t *testing.T) {
	for _, pair := range [][2]string{{"3.7.3", "3.10.0"}, {"3.7", "3.7.1"}, {"0.1.0", "1"}} {
		if compareVersions(pair[0], pair[1]) >= 0 || compareVersions(pair[1], pair[0]) <= 0 {
			t.Errorf("%s is not below %s", pair[0], pair[1])
		}
	}
}
