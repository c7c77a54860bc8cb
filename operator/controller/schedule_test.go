package controller

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"metastore.io/metastore/api/v1alpha1"
	"metastore.io/metastore/operator/backup"
)

// scheduled is a schedule whose clock the test moves, with the controller of
// backups at work on what it makes.
type scheduled struct {
	*backups
	now time.Time
	// crashes ends the operator after each call that changes something.
	crashes bool
	died    []string
}

func newScheduled(ctx context.Context) *scheduled {
	GinkgoHelper()
	f := &scheduled{backups: newBackups(ctx), now: time.Now().Truncate(24 * time.Hour).Add(48*time.Hour + 30*time.Minute)}
	f.serves()
	f.startThose(false)
	return f
}

func (f *scheduled) make(change ...func(*v1alpha1.MetaStoreBackupSchedule)) {
	GinkgoHelper()
	s := &v1alpha1.MetaStoreBackupSchedule{
		ObjectMeta: metav1.ObjectMeta{Namespace: f.namespace, Name: "hourly"},
		Spec: v1alpha1.MetaStoreBackupScheduleSpec{
			Schedule: "0 * * * *",
			Template: v1alpha1.BackupTemplate{Spec: v1alpha1.MetaStoreBackupSpec{
				ClusterRef: v1alpha1.ClusterRef{Name: f.name}, DeletionPolicy: v1alpha1.ArtifactDelete,
				BackupSettings: v1alpha1.BackupSettings{Destination: toClaim("backups", true), BackoffLimit: ptr.To(int32(0))},
			}},
		},
	}
	for _, fn := range change {
		fn(s)
	}
	Expect(kube.Create(f.ctx, s)).To(Succeed())
}

func (f *scheduled) schedule() *v1alpha1.MetaStoreBackupSchedule {
	GinkgoHelper()
	s := &v1alpha1.MetaStoreBackupSchedule{}
	Expect(kube.Get(f.ctx, client.ObjectKey{Namespace: f.namespace, Name: "hourly"}, s)).To(Succeed())
	return s
}

func (f *scheduled) change(fn func(*v1alpha1.MetaStoreBackupSchedule)) {
	GinkgoHelper()
	s := f.schedule()
	base := s.DeepCopy()
	fn(s)
	Expect(kube.Patch(f.ctx, s, client.MergeFrom(base))).To(Succeed())
}

// pass makes one pass of a fresh operator, and says whether it changed something.
func (f *scheduled) pass() (changed bool) {
	GinkgoHelper()
	n := counting(kube, f.fake)
	n.crashes = f.crashes
	defer func() {
		if v := recover(); v != nil {
			if _, ours := v.(crash); !ours {
				panic(v)
			}
			f.died = append(f.died, n.calls()[len(n.calls())-1])
			changed = true
		}
	}()
	_, s := f.reconcilers(n, n)
	s.Now = func() time.Time { return f.now }
	_, err := s.Reconcile(f.ctx, ctrl.Request{NamespacedName: client.ObjectKey{Namespace: f.namespace, Name: "hourly"}})
	Expect(err).NotTo(HaveOccurred())
	return len(n.calls()) > 0
}

// settle makes passes until nothing goes on: neither the schedule's steps, nor
// the backups that it has made.
func (f *scheduled) settle() {
	GinkgoHelper()
	Eventually(func() string {
		switch {
		case f.pass():
			return "the schedule goes on"
		case len(f.schedule().Status.Active) > 0:
			return "backups go on"
		}
		for _, b := range f.list() {
			if b.DeletionTimestamp != nil {
				return "backups are being deleted"
			}
		}
		return ""
	}).WithTimeout(patience).WithPolling(20*time.Millisecond).Should(BeEmpty(), func() string { return fmt.Sprintf("%+v\n%v", f.schedule().Status, f.events.actions()) })
}

func (f *scheduled) list() []v1alpha1.MetaStoreBackup {
	GinkgoHelper()
	list := &v1alpha1.MetaStoreBackupList{}
	Expect(kube.List(f.ctx, list, client.InNamespace(f.namespace))).To(Succeed())
	return list.Items
}

// hours are the hours of the backups that there are, in order.
func (f *scheduled) hours() []string {
	GinkgoHelper()
	var out []string
	for _, b := range f.list() {
		stamp := strings.TrimPrefix(b.Name, "hourly-")
		at, err := time.Parse("200601021504", stamp)
		if err != nil {
			out = append(out, stamp)
			continue
		}
		out = append(out, at.Format("15"))
	}
	slices.Sort(out)
	return out
}

var keepTwo = func(s *v1alpha1.MetaStoreBackupSchedule) {
	s.Spec.Retention = &v1alpha1.BackupRetention{KeepLast: ptr.To(int32(2))}
}

var _ = Describe("A schedule of backups", func() {
	It("makes them by the clock, and keeps what its retention says, with their artifacts", func(ctx SpecContext) {
		f := newScheduled(ctx)
		f.make(keepTwo)
		for range 4 {
			f.settle()
			f.now = f.now.Add(time.Hour)
		}
		f.settle()
		Expect(f.hours()).To(Equal([]string{"03", "04"}))
		Expect(f.store.artifacts).To(HaveLen(2))
		s := f.schedule()
		Expect(s.Status.LastScheduleTime.UTC().Hour()).To(Equal(4))
		Expect(s.Status.NextScheduleTime.UTC().Hour()).To(Equal(5))
		Expect(s.Status.LastSuccessfulBackup).To(HavePrefix("hourly-"))
		for _, t := range []string{v1alpha1.ConditionReady, v1alpha1.ConditionBackupCurrent} {
			Expect(meta.IsStatusConditionTrue(s.Status.Conditions, t)).To(BeTrue(), "%s of %+v", t, s.Status.Conditions)
		}
		By("writing nothing when nothing changes")
		Expect(f.pass()).To(BeFalse())
		By("never letting the last good one go")
		f.store.change(func(verb string) string { return map[string]string{"take": "DestinationFull"}[verb] }, nil)
		for range 5 {
			f.now = f.now.Add(time.Hour)
			f.settle()
		}
		Expect(f.hours()).To(Equal([]string{"03", "04", "07", "08", "09"}))
		c := condition(f.schedule().Status.Conditions, v1alpha1.ConditionBackupCurrent)
		Expect(c.Status).To(Equal(metav1.ConditionFalse))
		Expect(c.Reason).To(Equal("BackupFailed"))
		Expect(c.Message).To(ContainSubstring("DestinationFull"))
		Expect(f.events.actions()).To(ContainElement(HavePrefix("Warning BackupCurrent BackupFailed: ")))
		By("leaving them all when it is deleted")
		Expect(kube.Delete(ctx, s)).To(Succeed())
		Consistently(f.list).WithTimeout(time.Second).Should(HaveLen(5))
	})

	It("makes one at once for each word, and of missed ones the last", func(ctx SpecContext) {
		f := newScheduled(ctx)
		f.make(func(s *v1alpha1.MetaStoreBackupSchedule) {
			s.Spec.Suspend, s.Annotations = true, map[string]string{v1alpha1.AnnotationBackupNow: "a"}
		})
		f.settle()
		f.settle()
		Expect(f.list()).To(HaveLen(1))
		f.now = f.now.Add(5 * time.Hour)
		f.change(func(s *v1alpha1.MetaStoreBackupSchedule) { s.Spec.Suspend = false })
		f.settle()
		Expect(f.hours()).To(ConsistOf("05", HavePrefix("now-")))
		Expect(f.schedule().Status.BackupNow).To(Equal("a"))
	})

	It("waits for one that goes on, or replaces it", func(ctx SpecContext) {
		f := newScheduled(ctx)
		f.make()
		f.store.change(nil, func(verb string) bool { return verb == "take" })
		f.now = f.now.Add(time.Hour)
		Eventually(f.pass).WithTimeout(patience).Should(BeFalse())
		f.now = f.now.Add(time.Hour)
		Eventually(f.pass).WithTimeout(patience).Should(BeFalse())
		Expect(f.hours()).To(Equal([]string{"01"}))
		f.change(func(s *v1alpha1.MetaStoreBackupSchedule) { s.Spec.ConcurrencyPolicy = v1alpha1.BackupReplace })
		Eventually(func() []string { f.pass(); return f.hours() }).WithTimeout(patience).Should(Equal([]string{"02"}))
		f.store.change(nil, func(string) bool { return false })
		f.settle()
		Expect(f.store.called()).To(HaveLen(1))
	})

	It("that no clock can follow says so, and is taken up once it is mended", func(ctx SpecContext) {
		f := newScheduled(ctx)
		f.make(func(s *v1alpha1.MetaStoreBackupSchedule) { s.Spec.Schedule = "61 * * * *" })
		f.pass()
		s := f.schedule()
		c := condition(s.Status.Conditions, v1alpha1.ConditionStalled)
		Expect(c).NotTo(BeNil())
		Expect(c.Reason).To(Equal("ScheduleInvalid"))
		Expect(c.Message).To(HavePrefix("spec.schedule is 61 * * * *, which is no line of cron"))
		Expect(meta.IsStatusConditionFalse(s.Status.Conditions, v1alpha1.ConditionReady)).To(BeTrue())
		Expect(f.events.actions()).To(ContainElement(HavePrefix("Warning Stalled ScheduleInvalid: ")))
		f.change(func(s *v1alpha1.MetaStoreBackupSchedule) {
			s.Spec.Schedule, s.Spec.TimeZone = "@hourly", "Europe/Atlantis"
		})
		f.pass()
		Expect(condition(f.schedule().Status.Conditions, v1alpha1.ConditionStalled).Message).To(HavePrefix("spec.timeZone is Europe/Atlantis"))
		f.change(func(s *v1alpha1.MetaStoreBackupSchedule) { s.Spec.TimeZone = "" })
		f.now = f.now.Add(time.Hour)
		f.settle()
		Expect(f.hours()).To(Equal([]string{"01"}))
		Expect(condition(f.schedule().Status.Conditions, v1alpha1.ConditionStalled)).To(BeNil())
	})

	It("survives an operator that dies after each call", func(ctx SpecContext) {
		f := newScheduled(ctx)
		f.crashes = true
		f.make(keepTwo, func(s *v1alpha1.MetaStoreBackupSchedule) {
			s.Annotations = map[string]string{v1alpha1.AnnotationBackupNow: "a"}
		})
		for range 3 {
			f.settle()
			f.now = f.now.Add(time.Hour)
		}
		f.settle()
		Expect(f.hours()).To(Equal([]string{"02", "03"}))
		Expect(f.store.called()).To(HaveLen(8), "%v", f.store.called()) // five made, three deleted
		for _, call := range []string{"create hourly-now-", "create hourly-2", "delete hourly-now-", "status hourly"} {
			Expect(f.died).To(ContainElement(HavePrefix(call)), "%v", f.died)
		}
	})
})

var _ = Describe("A backup whose operator dies after each call", func() {
	It("ends as any other, and so does its deletion", func(ctx SpecContext) {
		f := newBackups(ctx)
		f.serves()
		b := f.take("a", deleted)
		died := f.passBackup("a", func() bool { return outcomeOf(f.get("a")) == backup.Complete && len(f.jobs()) == 0 })
		Expect(f.get("a").Status.Manifest).NotTo(BeNil())
		Expect(kube.Delete(ctx, b)).To(Succeed())
		died = append(died, f.passBackup("a", func() bool { return len(f.list()) == 0 })...)
		Expect(f.store.called()).To(Equal([]string{"take a", "delete a"}))
		Expect(died).To(ContainElements("patch a", "create backups", "create a-take", "status a", "delete a-take", "create a-delete"))
	})
})

func (f *backups) list() []v1alpha1.MetaStoreBackup { return (&scheduled{backups: f}).list() }

// passBackup makes passes of operators that die after their first call that
// changes something, until it is done, and returns those calls.
func (f *backups) passBackup(name string, done func() bool) (died []string) {
	GinkgoHelper()
	pass := func() {
		n := counting(kube, f.fake)
		n.crashes = true
		defer func() {
			if v := recover(); v != nil {
				if _, ours := v.(crash); !ours {
					panic(v)
				}
				died = append(died, n.calls()[len(n.calls())-1])
			}
		}()
		r, _ := f.reconcilers(n, kube)
		_, _ = r.Reconcile(f.ctx, ctrl.Request{NamespacedName: client.ObjectKey{Namespace: f.namespace, Name: name}}) // a failed pass is retried, as always
	}
	Eventually(func() bool { pass(); return done() }).WithTimeout(patience).WithPolling(20*time.Millisecond).
		Should(BeTrue(), func() string { return fmt.Sprintf("%v\n%v", died, f.events.actions()) })
	return died
}
