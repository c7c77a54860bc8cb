package backup

import "metastore.io/metastore/server/disk"

// Undo puts the data dir back that a restore with a word has replaced, and
// removes what the restore made, with all that was written to it since. Where
// there was none, there is none again. Repeating it is fine.
func Undo(dir, once string) error {
	s, err := newOnce(dir, once)
	if err != nil {
		return err
	}
	return s.undo()
}

// Finish deletes the data dir that a restore with a word has replaced; there is
// no way back. Repeating it is fine.
func Finish(dir, once string) error {
	s, err := newOnce(dir, once)
	if err != nil {
		return err
	}
	return s.finish()
}

func newOnce(dir, once string) (*swap, error) {
	if once == "" {
		return nil, failf(InvalidArgument, "--once is needed: the word of the restore")
	}
	return newSwap(disk.OS(), dir, once)
}

func (s *swap) undo() error {
	made, err := s.readSeal(s.dir)
	if err != nil {
		return err
	}
	before, err := s.exists(s.before)
	if err != nil {
		return err
	}
	if made != nil {
		if made.Replaced && !before {
			return failf(Failed, "the restore %s is finished: the data dir before it is deleted", s.once)
		}
		lock, err := s.lock()
		if err != nil {
			return err
		}
		defer func() { _ = lock.Close() }() // ends with the process at the latest
		if err := s.removeAll(s.undone); err != nil {
			return err
		}
		if err := s.rename(s.dir, s.undone); err != nil {
			return err
		}
	}
	if before {
		if err := s.rename(s.before, s.dir); err != nil {
			return err
		}
	}
	if err := s.discard(); err != nil {
		return err
	}
	return s.removeAll(s.undone)
}

func (s *swap) finish() error {
	made, err := s.readSeal(s.dir)
	if err != nil {
		return err
	}
	if made == nil {
		return failf(Failed, "the data dir %s is not of the restore %s: nothing is deleted", s.dir, s.once)
	}
	before, err := s.exists(s.before)
	if err != nil {
		return err
	}
	if before {
		if err := s.rename(s.before, s.old); err != nil {
			return err
		}
	}
	return s.removeAll(s.old)
}
