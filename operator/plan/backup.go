package plan

// Backup is a MetaStoreBackup that something waits for.
type Backup struct {
	// Name is the one that it has, or is to have.
	Name  string
	State BackupState
	// Why is what the backup says of itself, as long as it is not complete.
	Why string
}

// BackupState is how far a backup is.
type BackupState string

const (
	BackupMissing  BackupState = ""
	BackupRunning  BackupState = "Running"
	BackupComplete BackupState = "Complete"
	BackupFailed   BackupState = "Failed"
)

// held has the cluster object wait for its last backup, or not, as the spec says,
// before anybody thinks of deleting it.
func held(w *World) *Decision {
	switch {
	case w.Held == w.Spec.BackupThenDelete:
		return nil
	case w.Held:
		return act(setup, -1, step(ReleaseDeletion, -1), "DeletionPolicy", "no backup is asked for when the cluster is deleted")
	}
	return act(setup, -1, step(HoldDeletion, -1), "DeletionPolicy", "the cluster is backed up before it is deleted")
}

// lastBackup is for a cluster that is being deleted and waits for a backup. A
// cluster without one goes when it has never served, or when the user chooses
// another policy after all.
func lastBackup(w *World) *Decision {
	b := w.LastBackup
	switch {
	case !w.Spec.BackupThenDelete || b == nil:
		return w.release("no backup is asked for any more")
	case !w.Bootstrapped:
		return w.release("the cluster has never served: there is nothing to back up")
	case b.State == BackupComplete:
		w.Spec.OwnVolumes = true
		return w.release("the last backup %s is complete", b.Name)
	case len(w.Pods) == 0:
		// Asleep, or deleted in the foreground, which takes first what the cluster owns.
		return wait(deleting, -1, w.Now, ReasonLastBackupFailed, "the cluster is not deleted: no member runs that it could be backed up from; "+
			"set spec.deletionPolicy to Retain to let it go and keep its volumes, or to Delete")
	case b.State == BackupMissing:
		return act(deleting, -1, makeBackup(b), "LastBackup", "the cluster is being deleted; it is backed up first")
	case b.State == BackupRunning:
		return w.waitSinceReported(deleting, -1, w.Limits.BackupTimeout, "LastBackup",
			"the cluster is being deleted, and waits for backup %s: %s", b.Name, b.Why)
	}
	return wait(deleting, -1, w.Now, ReasonLastBackupFailed, "the cluster is not deleted, since its last backup %s failed: %s; "+
		"delete that MetaStoreBackup to have it tried again, or set spec.deletionPolicy to Retain or Delete to let the cluster go without it", b.Name, b.Why)
}

// release sees to the volumes before the cluster object goes.
func (w *World) release(format string, args ...any) *Decision {
	if d := owners(w); d != nil {
		return d
	}
	return act(deleting, -1, step(ReleaseDeletion, -1), ReasonDeleting, format, args...)
}

// awaitUpdateBackup waits for a backup before the first member gets another image.
func (w *World) awaitUpdateBackup(m Member) *Decision {
	b := w.UpdateBackup
	switch {
	case b == nil || b.State == BackupComplete:
		return nil
	case b.State == BackupMissing:
		return act(rolling, m.Ordinal, makeBackup(b), "PreUpdateBackup", "members are about to get another image; the cluster is backed up first")
	case b.State == BackupRunning:
		return w.waitSinceReported(rolling, m.Ordinal, w.Limits.BackupTimeout, "PreUpdateBackup", "the other image waits for backup %s: %s", b.Name, b.Why)
	}
	return wait(rolling, m.Ordinal, w.Now, ReasonUpdateBackupFailed, "members keep their image, since backup %s failed: %s; "+
		"delete that MetaStoreBackup to have it tried again, or take spec.update.preUpdateBackup away to go on without it", b.Name, b.Why)
}

func makeBackup(b *Backup) Step {
	s := step(MakeBackup, -1)
	s.Object = b.Name
	return s
}
