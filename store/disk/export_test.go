package disk

import "github.com/cockroachdb/pebble/v2/vfs"

// Outside makes call run every function that enters the engine. Tests in a synctest bubble use it to run them
// outside of the bubble.
func (o Options) Outside(call func(func())) Options {
	o.call = call
	return o
}

// On sets the file system of the log.
func (o Options) On(fs vfs.FS) Options {
	o.fs = fs
	return o
}

// Watched sets a function that is called after each turn of the committer, and when a writer begins or ends to wait for
// room on disk.
func (o Options) Watched(changed func()) Options {
	o.changed = changed
	return o
}

// Full returns a channel that is closed while writers wait for room on disk.
func (l *Log) Full() <-chan struct{} { return l.engine.fs.full() }

// The bounds of MaxHeld and MaxExamined.
const (
	MaxHold   = maxHold
	MaxLooked = maxLooked
)

// MaxHeld returns the most groups that one hold of the lock, or one turn that applies policies, examined.
func (l *Log) MaxHeld() int64 { return l.maxHeld.Load() }

// MaxExamined returns the most messages that one step backward through the log examined.
func (l *Log) MaxExamined() int64 { return l.maxExamined.Load() }

// Recalling sets how many bytes of recent messages the log keeps in memory. With few, tests read from
// disk.
func (o Options) Recalling(bytes int) Options {
	o.tail = bytes
	return o
}
