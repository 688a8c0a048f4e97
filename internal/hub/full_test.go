package hub

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/watchbox-go/watchbox/store"
)

func TestAFullStoreIsLoggedOnceAndItsRecoveryOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		f := fullness{logger: slog.New(slog.NewTextHandler(&log, nil))}
		full := fmt.Errorf("%w: the disk is full", store.ErrFull)
		f.appended(nil)
		for range 2 {
			log.Reset()
			for range 1000 {
				f.appended(full)
				f.appended(errors.New("something else"))
				f.appended(nil) // a small message that still fits
				time.Sleep(fullLogInterval / 2)
			}
			if text := log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "level=ERROR") || !strings.Contains(text, "the disk is full") {
				t.Errorf("the log of a full store is\n%s", text)
			}
			log.Reset()
			time.Sleep(fullLogInterval)
			for range 1000 {
				f.appended(nil)
			}
			if text := log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "accepts messages again") {
				t.Errorf("after recovery the log is\n%s", text)
			}
		}
	})
}
