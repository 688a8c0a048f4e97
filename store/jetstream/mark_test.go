package jetstream

import (
	"encoding/json"
	"testing"

	"github.com/watchbox-go/watchbox/store/memory"
)

// TestAMarkSaysNothingOfWhatIsBehindIt has a mark with positions of another stream, which this one reaches later.
func TestAMarkSaysNothingOfWhatIsBehindIt(t *testing.T) {
	for name, m := range map[string]keyedMark{
		"evicted":           {evictKeys + "g", mark{Eviction: memory.Eviction{Through: 100}}},
		"its own position":  {evictKeys + "g", mark{Eviction: memory.Eviction{Through: 2}}},
		"missing":           {evictKeys + "g", mark{Missing: 100}},
		"retained":          {evictKeys + "g", mark{Retained: 100}},
		"read again":        {evictKeys + "g", mark{Reread: 100}},
		"in all groups":     {evictKeys + everyGroup, mark{Eviction: memory.Eviction{Through: 100}}},
		"said by old marks": {lostKey, mark{Eviction: memory.Eviction{Through: 100}}},
		"in any group":      {goneKey, mark{Missing: 100}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHoled(t)
			value, err := json.Marshal(&m.mark)
			if err != nil {
				t.Fatal(err)
			}
			h.feed(1, message(1, 0))
			h.feed(2, record{flags: isNote, key: m.key, value: value, version: 1, by: appendID{1, 1}})
			h.feed(3, message(2, 0))
			if gaps, read := h.gaps(); gaps > 0 || read != "3" {
				t.Errorf("%d gaps, and the messages %s", gaps, read)
			}
		})
	}
}
