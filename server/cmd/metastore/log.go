package main

import (
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"time"
)

// newLogger writes lines as etcd's tools expect them: JSON with level, ts,
// caller and msg first.
func newLogger(w io.Writer, level string) (*slog.Logger, error) {
	l, err := logLevel(level)
	if err != nil {
		return nil, err
	}
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{
		Level: l, AddSource: true,
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) > 0 {
				return a
			}
			switch v := a.Value.Any().(type) {
			case *slog.Source:
				return slog.String("caller", fmt.Sprintf("%s:%d", filepath.Join(filepath.Base(filepath.Dir(v.File)), filepath.Base(v.File)), v.Line))
			case slog.Level:
				return slog.String("level", strings.ToLower(v.String()))
			case time.Time:
				if a.Key == slog.TimeKey {
					return slog.String("ts", v.Format("2006-01-02T15:04:05.000000Z0700"))
				}
			case error:
				return slog.String(a.Key, v.Error())
			}
			return a
		},
	})), nil
}

func logLevel(name string) (slog.Level, error) {
	switch name {
	case "debug":
		return slog.LevelDebug, nil
	case "info":
		return slog.LevelInfo, nil
	case "warn":
		return slog.LevelWarn, nil
	case "error", "dpanic", "panic", "fatal":
		return slog.LevelError, nil
	}
	return 0, fmt.Errorf("--log-level=%s is not valid: debug, info, warn, error, dpanic, panic or fatal is allowed", name)
}
