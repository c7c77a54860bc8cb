package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"slices"
	"strings"

	"go.etcd.io/etcd/client/pkg/v3/logutil"
	"go.uber.org/zap"
	"go.uber.org/zap/exp/zapslog"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zapgrpc"
	"google.golang.org/grpc/grpclog"
	"gopkg.in/natefinch/lumberjack.v2"
)

const (
	outputDefault = "default" // is stderr
	outputStderr  = "stderr"
	outputStdout  = "stdout"
	outputJournal = "systemd/journal"

	formatJSON      = "json"
	formatConsole   = "console"
	defaultLogLevel = "info"
	defaultRotation = `{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}`
)

// logOptions are the flags about logging.
type logOptions struct {
	level, format, outputs string
	rotate                 bool
	rotation               string // JSON, of lumberjack's fields
}

// logs is one log by two names: the server writes to slog, etcd's libraries to
// zap. Lines are as etcd's: level, ts, caller and msg first.
type logs struct {
	slog *slog.Logger
	zap  *zap.Logger
}

func newLogs(o logOptions) (logs, error) {
	level, err := zapcore.ParseLevel(o.level)
	if err != nil {
		return logs{}, refuse("log-level", o.level, "debug, info, warn, error, dpanic, panic or fatal")
	}
	sink, err := o.open()
	if err != nil {
		return logs{}, err
	}
	encoder := zapcore.NewJSONEncoder(logutil.DefaultZapLoggerConfig.EncoderConfig)
	switch o.format {
	case formatJSON, "":
	case formatConsole:
		encoder = zapcore.NewConsoleEncoder(logutil.DefaultZapLoggerConfig.EncoderConfig)
	default:
		return logs{}, refuse("log-format", o.format, "json or console")
	}
	core := zapcore.NewCore(encoder, sink, level)
	l := logs{
		zap:  zap.New(core, zap.AddCaller(), zap.ErrorOutput(sink)),
		slog: slog.New(zapslog.NewHandler(core, zapslog.WithCaller(true), zapslog.AddStacktraceAt(slog.Level(math.MaxInt)))),
	}
	if level == zapcore.DebugLevel {
		grpclog.SetLoggerV2(zapgrpc.NewLogger(l.zap))
	} else {
		grpclog.SetLoggerV2(grpclog.NewLoggerV2(io.Discard, io.Discard, io.Discard))
	}
	return l, nil
}

// open opens the outputs.
func (o logOptions) open() (zapcore.WriteSyncer, error) {
	names := slices.Compact(slices.Sorted(slices.Values(strings.Split(o.outputs, ","))))
	alone := len(names) == 1
	if slices.Contains(names, "/dev/null") {
		return zapcore.AddSync(io.Discard), nil
	}
	file, err := o.rotated(names)
	if err != nil {
		return nil, err
	}
	var sinks []zapcore.WriteSyncer
	for _, name := range names {
		var sink zapcore.WriteSyncer
		switch {
		case name == outputStderr, name == outputDefault && alone, name == "" && alone:
			sink = zapcore.Lock(os.Stderr)
		case name == outputStdout:
			sink = zapcore.Lock(os.Stdout)
		case name == outputJournal && alone:
			//nolint:staticcheck // SA1019: it stays in the 3.7 line that this builds with
			w, err := logutil.NewJournalWriter(os.Stderr)
			if err != nil {
				return nil, fmt.Errorf("--log-outputs=%s: %w", o.outputs, err)
			}
			sink = zapcore.AddSync(w)
		case name == outputDefault, name == outputJournal, name == "":
			return nil, refuse("log-outputs", o.outputs, "default or systemd/journal alone, or stdout, stderr and files with commas between,")
		case file != nil:
			file.Filename = name
			sink = zapcore.AddSync(file)
		default:
			if sink, _, err = zap.Open(name); err != nil {
				return nil, fmt.Errorf("--log-outputs=%s: %w", o.outputs, err)
			}
		}
		sinks = append(sinks, sink)
	}
	return zapcore.NewMultiWriteSyncer(sinks...), nil
}

// rotated is the file that rotates, without its name; nil when none does.
func (o logOptions) rotated(names []string) (*lumberjack.Logger, error) {
	if !o.rotate {
		return nil, nil
	}
	files := 0
	for _, n := range names {
		if n != outputDefault && n != outputStderr && n != outputStdout && n != outputJournal && n != "" {
			files++
		}
	}
	if files != 1 {
		return nil, refuse("log-outputs", o.outputs, "exactly one file, with --enable-log-rotation,")
	}
	l := &lumberjack.Logger{}
	if err := json.Unmarshal([]byte(o.rotation), l); err != nil {
		var syntax *json.SyntaxError
		var wrong *json.UnmarshalTypeError
		switch {
		case errors.As(err, &syntax):
			err = fmt.Errorf("improperly formatted log rotation config: %w", err)
		case errors.As(err, &wrong):
			err = fmt.Errorf("invalid log rotation config: %w", err)
		}
		return nil, fmt.Errorf("--log-rotation-config-json=%s is not valid: %w; JSON such as %s is allowed", o.rotation, err, defaultRotation)
	}
	return l, nil
}

// stderrLogger is what the subcommands log to.
func stderrLogger(level string) (*slog.Logger, error) {
	l, err := newLogs(logOptions{level: level, outputs: outputStderr})
	return l.slog, err
}
