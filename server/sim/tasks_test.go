package sim

import "iter"

// task is the work of one of host's goroutines that the disk makes wait. It runs
// as a coroutine: at each operation on the disk it hands control back, and goes
// on when the operation's time is over. So everything else can happen between
// any two operations, in an order that the seed decides.
type task struct {
	next  func() (wait int64, more bool)
	stop  func()
	yield func(wait int64) bool
}

// parked tasks go on when somebody wakes them.
const parked = int64(-1)

// spawn starts a task; do returns soon after the process has ended, since
// nothing that it does to the disk succeeds from then on.
func (r *process) spawn(do func()) {
	t := &task{}
	t.next, t.stop = iter.Pull(func(yield func(int64) bool) {
		t.yield = yield
		do()
	})
	r.tasks = append(r.tasks, t)
	r.goOn(t)
}

// goOn runs a task up to its next wait.
func (r *process) goOn(t *task) {
	before := r.fs.task
	r.fs.task = t
	wait, more := t.next()
	r.fs.task = before
	switch {
	case !more:
		for i := range r.tasks {
			if r.tasks[i] == t {
				r.tasks = append(r.tasks[:i], r.tasks[i+1:]...)
				break
			}
		}
	case wait != parked:
		r.after(wait, func() { r.goOn(t) })
	}
}

// wakeTask lets a parked task go on soon.
func (r *process) wakeTask(t *task) {
	r.after(r.w.between(5, 1000), func() { r.goOn(t) })
}

// suspend hands control back for a time; an error means that the process has
// ended meanwhile. Outside of a task nothing waits.
func (r *process) suspend(wait int64) error {
	t := r.fs.task
	if t == nil {
		return nil
	}
	if !t.yield(wait) {
		return errKilled
	}
	return nil
}

// endTasks lets all tasks but the running one find that the process is gone.
func (r *process) endTasks() {
	tasks := r.tasks
	r.tasks = nil
	for _, t := range tasks {
		if t != r.fs.task {
			t.stop()
		}
	}
}
