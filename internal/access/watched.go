package access

import (
	"os"
	"time"
)

// watched is a file that is read again when it changes.
type watched struct {
	path string
	load func() error
	seen os.FileInfo
	miss bool

	failed string // the error of the last load; "" if it succeeded
}

// changed reports whether the file may have changed since the last call.
func (w *watched) changed() bool {
	info, err := os.Stat(w.path)
	if err != nil {
		was := w.miss
		w.miss = true
		return !was
	}
	same := !w.miss && w.seen != nil && os.SameFile(w.seen, info) &&
		w.seen.Size() == info.Size() && w.seen.ModTime().Equal(info.ModTime()) &&
		time.Since(info.ModTime()) > 2*time.Second // two writes within the resolution of ModTime look the same
	w.seen, w.miss = info, false
	return !same
}
