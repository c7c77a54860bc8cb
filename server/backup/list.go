package backup

import (
	"context"
	"log/slog"
)

// List gives the manifests of all backups, in the order of their names. What
// cannot be read is told to logger and left out.
func List(ctx context.Context, from Location, logger *slog.Logger) ([]*Manifest, error) {
	s, err := from.store()
	if err != nil {
		return nil, err
	}
	if err := s.check(ctx, false); err != nil {
		return nil, err
	}
	all := []*Manifest{}
	err = s.backups(ctx, func(name string) error {
		m, err := readManifest(ctx, s, name, "")
		switch ReasonOf(err) {
		case Corrupt, NewerFormat, NotFound:
			logger.Warn("a backup cannot be read", "backup", name, "error", err)
			return nil
		}
		if err != nil {
			return err
		}
		all = append(all, m)
		return nil
	})
	return all, err
}

// Delete removes a backup, whole or not; none is fine.
func Delete(ctx context.Context, name string, from Location) error {
	if err := checkName(name); err != nil {
		return err
	}
	s, err := from.store()
	if err != nil {
		return err
	}
	if err := s.check(ctx, true); err != nil {
		return err
	}
	return s.remove(ctx, name)
}
