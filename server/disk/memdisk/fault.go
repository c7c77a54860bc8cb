package memdisk

// Crash cuts the power: what was not synced is kept, lost or torn as the seed
// says, locks are free, old handles are dead. The file system is then usable
// again, with no fault set but the capacity.
func (m *FS) Crash() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.root.crash(m.rng)
	m.locks = map[string]bool{}
	m.generation++
	m.crashed, m.crashIn, m.failSyncIn = false, -1, -1
}

// CrashAfter sets a crash point: operations more changing operations (writes,
// syncs, names) succeed; the next one reaches the disk in part and gives
// ErrCrashed, as everything does from then to Crash. Negative: none.
func (m *FS) CrashAfter(operations int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.crashIn = operations
}

// FailSync lets syncs more Sync and SyncDir calls succeed and fails the one
// after. Negative: none fails.
func (m *FS) FailSync(syncs int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.failSyncIn = syncs
}

// SetCapacity limits the bytes of all files; writes beyond give ENOSPC.
// Negative: no limit.
func (m *FS) SetCapacity(sizeBytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.capacity = sizeBytes
}

// FlipBit damages a file where it lies; bit counts from the file's first byte,
// lowest bit first.
func (m *FS) FlipBit(name string, bit int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find("flip", name)
	if err != nil {
		return err
	}
	for _, data := range [][]byte{n.data, n.durable} {
		if bit/8 < int64(len(data)) {
			data[bit/8] ^= 1 << (bit % 8)
		}
	}
	return nil
}

// Rot lets a bit of a file read inverted, as a decaying medium does, until the
// byte is written again or Mend is called. Bits count as for FlipBit.
func (m *FS) Rot(name string, bit int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find("rot", name)
	if err != nil {
		return err
	}
	if n.rot == nil {
		n.rot = map[int64]byte{}
	}
	n.rot[bit/8] ^= 1 << (bit % 8)
	return nil
}

// Mend ends all rot.
func (m *FS) Mend() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.root.mend()
}

// Clone copies the whole state, without handles, locks and faults; the copy's
// randomness follows its own seed.
func (m *FS) Clone(seed uint64) *FS {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := New(seed)
	c.root = m.root.clone(map[*node]*node{})
	c.capacity = m.capacity
	return c
}

// Operations counts the changing operations so far, Syncs those of them that
// were Sync or SyncDir and succeeded.
func (m *FS) Operations() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ops
}

// Syncs is described at Operations.
func (m *FS) Syncs() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.syncs
}

// step counts a changing operation. err: it must not happen at all. stop: it
// happens, unsynced, and the caller gives stop as its result.
func (m *FS) step() (stop, err error) {
	if m.crashed {
		return nil, ErrCrashed
	}
	m.ops++
	if m.crashIn == 0 {
		m.crashed = true
		return ErrCrashed, nil
	}
	if m.crashIn > 0 {
		m.crashIn--
	}
	return nil, nil
}

func (m *FS) syncFails() bool {
	if m.failSyncIn == 0 {
		m.failSyncIn = -1
		return true
	}
	if m.failSyncIn > 0 {
		m.failSyncIn--
	}
	m.syncs++
	return false
}

// room says how many of length bytes at offset the disk takes.
func (m *FS) room(n *node, offset int64, length int) int {
	if m.capacity < 0 {
		return length
	}
	free := max(0, m.capacity-m.root.sizeBytes())
	growth := offset + int64(length) - int64(len(n.data))
	if growth <= free {
		return length
	}
	return max(0, length-int(growth-free))
}
