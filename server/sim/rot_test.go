package sim

import (
	"errors"
	"path"
	"strings"

	"metastore.io/metastore/server/engine"
	"metastore.io/metastore/server/raftlog"
	"metastore.io/metastore/server/replica"
)

// rot flips a bit in one of a member's files. What follows is one of two: the
// member reads it and stops with a message that names file and offset (node
// adds the remedy and the exit code), or nobody ever misses it. The bit is
// mended when the member has stopped, as if its data came back from a good
// copy; until then all other checks go on.
//
// The last append to the log is left out, and what is written behind it and not
// synced: after a power cut a flip there cannot be told from a write that was
// torn, as package raftlog says.
func rot(w *world, r *process) {
	m := r.m
	name := w.anyFile(m)
	if name == "" {
		return
	}
	f, err := m.disk.Open(name)
	if err != nil {
		return // the disk is at a crash point
	}
	size, err := f.SizeBytes()
	if err != nil || size == 0 {
		return
	}
	at := w.rng.Int64N(size)
	if m.lastSynced.holds(name, at) || m.lastWrite.holds(name, at) {
		return
	}
	if err := m.disk.Rot(name, at*8+w.rng.Int64N(8)); err != nil {
		w.failf("flip a bit of %s: %v", name, err)
	}
	w.tracef("a bit of %s at offset %d of member %d flips", name, at, m.id)
	w.stats[flipsCount]++
	m.rotten = true
	if w.chance(0.5) {
		r.crash(w.chance(0.5))
	}
}

// anyFile is one of a member's files of the log or the engine.
func (w *world) anyFile(m *member) string {
	var files []string
	engines, err := m.disk.List(engineDir)
	if err != nil {
		return ""
	}
	for _, n := range engines {
		if n = path.Join(engineDir, n); path.Base(n) != "CURRENT" && path.Ext(n) != ".index" {
			n = path.Join(n, "dump")
		}
		files = append(files, n)
	}
	segments, err := m.disk.List(logDir)
	if err != nil {
		return ""
	}
	for _, n := range segments {
		files = append(files, path.Join(logDir, n), path.Join(logDir, n)) // twice as often
	}
	return files[w.rng.IntN(len(files))]
}

// foundRot asserts that what stops a member with a flipped bit says what has to
// be said.
func (r *process) foundRot(err error) bool {
	w, m := r.w, r.m
	if !m.rotten {
		return false
	}
	corrupt := errors.Is(err, raftlog.ErrCorrupt) || errors.Is(err, engine.ErrCorrupt) || errors.Is(err, replica.ErrLogBroken)
	text := err.Error()
	if !corrupt || !strings.Contains(text, dataDir+"/") || !strings.Contains(text, "offset ") {
		w.failf("member %d stops for a flipped bit and does not say so with file and offset: %v", m.id, err)
	}
	w.stats[detectedCount]++
	m.rotten = false
	m.disk.Mend()
	return true
}
