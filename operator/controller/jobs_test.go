package controller

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metastore.io/metastore/operator/resources"
)

// command is what the containers of a namespace's Jobs do: given the arguments, it
// says how it ends. It runs on while done is false.
type command func(args []string) (message string, exit int32, done bool)

// runs has the Jobs of a namespace run a command.
func (k *kubelet) runs(namespace string, c command) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.commands[namespace] = c
}

func (k *kubelet) command(namespace string) command {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.commands[namespace]
}

// runJob brings a Job's pod one step on: it is bound where its claims are, starts
// when its Secrets are there, and ends as the command says.
func (k *kubelet) runJob(ctx context.Context, pod *corev1.Pod) error {
	old := pod.DeepCopy()
	switch {
	case pod.DeletionTimestamp != nil:
		return client.IgnoreNotFound(k.client.Delete(ctx, pod, client.GracePeriodSeconds(0)))
	case pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed:
		return nil
	case pod.Spec.NodeName == "":
		if missing, err := k.missingClaim(ctx, pod); err != nil || missing == "" {
			binding := &corev1.Binding{Target: corev1.ObjectReference{Kind: "Node", Name: nodeName}}
			return client.IgnoreNotFound(k.client.SubResource("binding").Create(ctx, pod, binding))
		} else {
			pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse,
				Reason: "Unschedulable", Message: fmt.Sprintf("persistentvolumeclaim %q not found", missing)}}
			return ignoreRaces(k.client.Status().Patch(ctx, pod, client.MergeFrom(old)))
		}
	}
	status := corev1.ContainerStatus{Name: resources.Container, Image: "test", ImageID: "test"}
	pod.Status.Phase = corev1.PodRunning
	missing, err := k.missingSecret(ctx, pod)
	switch run := k.command(pod.Namespace); {
	case err != nil:
		return err
	case missing != "":
		pod.Status.Phase = corev1.PodPending
		status.State.Waiting = &corev1.ContainerStateWaiting{Reason: "CreateContainerConfigError", Message: fmt.Sprintf("secret %q not found", missing)}
	case strings.HasSuffix(pod.Spec.Containers[0].Image, missingTag):
		pod.Status.Phase = corev1.PodPending
		status.State.Waiting = &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff", Message: "no such image"}
	case run == nil:
		status.State.Running = &corev1.ContainerStateRunning{StartedAt: metav1.Now()}
	default:
		message, exit, done := run(pod.Spec.Containers[0].Args)
		if !done {
			status.State.Running = &corev1.ContainerStateRunning{StartedAt: pod.CreationTimestamp}
			break
		}
		status.State.Terminated = &corev1.ContainerStateTerminated{ExitCode: exit, Message: message, Reason: "Completed", FinishedAt: metav1.Now()}
		pod.Status.Phase = corev1.PodSucceeded
		if exit != 0 {
			pod.Status.Phase, status.State.Terminated.Reason = corev1.PodFailed, "Error"
		}
	}
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{status}
	return ignoreRaces(k.client.Status().Patch(ctx, pod, client.MergeFrom(old)))
}

func (k *kubelet) missingClaim(ctx context.Context, pod *corev1.Pod) (string, error) {
	for _, v := range pod.Spec.Volumes {
		if v.PersistentVolumeClaim == nil {
			continue
		}
		claim := &corev1.PersistentVolumeClaim{}
		err := k.client.Get(ctx, client.ObjectKey{Namespace: pod.Namespace, Name: v.PersistentVolumeClaim.ClaimName}, claim)
		if apierrors.IsNotFound(err) {
			return v.PersistentVolumeClaim.ClaimName, nil
		}
		if err != nil {
			return "", err
		}
	}
	return "", nil
}

func (k *kubelet) missingSecret(ctx context.Context, pod *corev1.Pod) (string, error) {
	for _, e := range pod.Spec.Containers[0].Env {
		if e.ValueFrom == nil || e.ValueFrom.SecretKeyRef == nil || e.ValueFrom.SecretKeyRef.Optional != nil {
			continue
		}
		name := e.ValueFrom.SecretKeyRef.Name
		err := k.client.Get(ctx, client.ObjectKey{Namespace: pod.Namespace, Name: name}, &corev1.Secret{})
		if apierrors.IsNotFound(err) {
			return name, nil
		}
		if err != nil {
			return "", err
		}
	}
	return "", nil
}

// store imitates the destination of a namespace's backups and the commands on it.
type store struct {
	mu sync.Mutex
	// artifacts are the times of creation, by name.
	artifacts map[string]metav1.Time
	// refuse gives the reason of a refusal of a call such as "take"; empty for none.
	refuse func(verb string) string
	// hold keeps a call running.
	hold  func(verb string) bool
	calls []string
	args  [][]string
}

func newStore() *store {
	return &store{artifacts: map[string]metav1.Time{}, refuse: func(string) string { return "" }, hold: func(string) bool { return false }}
}

func (s *store) run(args []string) (string, int32, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	verb, name := args[1], args[2]
	if s.hold(verb) {
		return "", 0, false
	}
	s.calls, s.args = append(s.calls, verb+" "+name[strings.LastIndexByte(name, '/')+1:]), append(s.args, args)
	if reason := s.refuse(verb); reason != "" {
		exit := int32(1)
		if reason == "InvalidArgument" {
			exit = 2
		}
		return fmt.Sprintf(`{"ok":false,"reason":%q,"message":"the store says so"}`, reason), exit, true
	}
	at, there := s.artifacts[name]
	switch {
	case verb == "delete" && !there:
		return `{"ok":false,"reason":"NotFound","message":"there is none"}`, 1, true
	case verb == "delete":
		delete(s.artifacts, name)
		return `{"ok":true}`, 0, true
	case there:
		return fmt.Sprintf(`{"ok":false,"reason":"AlreadyExists","message":"there is one","manifest":%s}`, manifestAt(at)), 1, true
	}
	s.artifacts[name] = metav1.Now()
	return fmt.Sprintf(`{"ok":true,"manifest":%s}`, manifestAt(s.artifacts[name])), 0, true
}

func manifestAt(at metav1.Time) string {
	return fmt.Sprintf(`{"format":1,"createdAt":%q,"clusterID":"c","memberID":"m","version":"0.1.0","revision":42,"raftIndex":50,"raftTerm":2,`+
		`"keys":7,"hash":9,"snapshotBytes":1000,"storedBytes":100,"snapshotSHA256":"aa","storedSHA256":"bb","compression":"zstd","verified":"checksum"}`,
		at.UTC().Format("2006-01-02T15:04:05.999999999Z07:00"))
}

// put stores what is not of the backup under test.
func (s *store) put(name string, at metav1.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.artifacts[name] = at
}

func (s *store) has(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.artifacts[name]
	return ok
}

func (s *store) called() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

// change replaces how calls are answered.
func (s *store) change(refuse func(verb string) string, hold func(verb string) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if refuse != nil {
		s.refuse = refuse
	}
	if hold != nil {
		s.hold = hold
	}
}
