package member

// before is what a restore has replaced.
type before struct {
	clusterID uint64
	committed uint64
	members   map[ID]*Member
	disk      ID
	token     string
	users     fakeUsers
}

// Restore is what a restore does to a volume: it holds the only member of a new
// cluster with this revision and token. What was there is kept for Undo. Nobody
// may run meanwhile.
func (f *Fake) Restore(volume, pod, peerURL, token string, revision uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.running) > 0 {
		f.note("restore %s under %d running members", pod, len(f.running))
	}
	if f.before[volume] == nil {
		f.before[volume] = &before{f.clusterID, f.committed, f.members, f.disks[volume], f.tokens[volume], f.users}
		f.note("restore %s", pod)
	}
	f.clusterID++
	f.members = map[ID]*Member{}
	m := f.add(peerURL, false)
	m.Name = pod
	f.disks[volume], f.tokens[volume], f.committed = m.ID, token, revision
}

// Undo puts back what Restore has replaced.
func (f *Fake) Undo(volume string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	b := f.before[volume]
	if b == nil {
		return
	}
	delete(f.before, volume)
	f.clusterID, f.committed, f.members = b.clusterID, b.committed, b.members
	f.disks[volume], f.tokens[volume] = b.disk, b.token
	f.users.enabled, f.users.password = b.users.enabled, b.users.password
	f.note("undo %s", f.members[b.disk].Name)
}

// Finish gives up what Restore has replaced.
func (f *Fake) Finish(volume string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.before, volume)
	f.note("finish")
}

// Token compares the token of a member's settings with the one that its volume
// was first started with, as the server does.
func (f *Fake) Token(volume, token string) Exit {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, used := f.disks[volume]; !used {
		f.tokens[volume] = token
	}
	if token != "" && f.tokens[volume] != token {
		return ExitForeign
	}
	return Running
}
