package store_test

import (
	"reflect"
	"testing"
	"time"

	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/store"
)

func filter(t *testing.T, s string) group.Filter {
	t.Helper()
	f, err := group.ParseFilter(s)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

var (
	some = store.Policy{MaxMessages: 1, MaxBytes: 2, MaxAge: 3, Store: store.Disk, Compress: store.Yes,
		Slow: store.SlowSkip, Coalesce: time.Second}
	other = store.Policy{MaxMessages: 10, MaxBytes: 20, MaxAge: 30, Store: store.Memory, Compress: store.No,
		Slow: store.SlowDisconnect, Coalesce: time.Minute}
)

func TestEachPropertyIsInheritedIndependently(t *testing.T) {
	n := reflect.TypeFor[store.Policy]().NumField()
	for i := range n {
		var one store.Policy
		reflect.ValueOf(&one).Elem().Field(i).Set(reflect.ValueOf(some).Field(i))
		var table store.Policies
		table.Restore(filter(t, "a"), one)
		table.Restore(filter(t, "#"), other)
		got := reflect.ValueOf(table.Effective(filter(t, "a"), store.Policy{}))
		for k := range n {
			want := reflect.ValueOf(other).Field(k).Interface()
			if k == i {
				want = reflect.ValueOf(some).Field(k).Interface()
			}
			if v := got.Field(k).Interface(); v != want {
				t.Errorf("with %s set, %s is %v, want %v", got.Type().Field(i).Name, got.Type().Field(k).Name, v, want)
			}
		}
	}
}

func TestUnsetFieldsOfAPolicyHaveTheirDefaults(t *testing.T) {
	var table store.Policies
	want := store.Policy{Store: store.Memory, Compress: store.No, Slow: store.SlowCatchUp}
	if got := table.Effective(filter(t, "a"), store.Policy{}); got != want {
		t.Errorf("got %+v", got)
	}
	if got := table.Effective(filter(t, "a"), some); got != some {
		t.Errorf("got %+v, want the server's %+v", got, some)
	}
}

func TestUnboundedIsNoBound(t *testing.T) {
	var table store.Policies
	none := store.Policy{MaxMessages: store.Unbounded, MaxBytes: store.Unbounded, MaxAge: store.Unbounded,
		Coalesce: store.Unbounded}
	table.Restore(filter(t, "a/#"), none)
	got := table.Effective(filter(t, "a/b"), some)
	if got.MaxMessages != 0 || got.MaxBytes != 0 || got.MaxAge != 0 || got.Coalesce != 0 || got.Slow != some.Slow {
		t.Errorf("got %+v", got)
	}
}

func TestTheNarrowestPolicyWinsInAnyOrder(t *testing.T) {
	rows := []string{"#", "a/#", "a/+", "a/b"}
	for first := range rows {
		var table store.Policies
		for k := range rows {
			i := (first + k) % len(rows)
			table.Restore(filter(t, rows[i]), store.Policy{MaxMessages: int64(i + 1)})
		}
		for name, want := range map[string]int64{"a/b": 4, "a/c": 3, "a": 2, "a/b/c": 2, "b": 1, "$b": 0, "a/+": 3, "+": 1} {
			if got := table.Effective(filter(t, name), store.Policy{}).MaxMessages; got != want {
				t.Errorf("set from %s on: %s keeps %d, want %d", rows[first], name, got, want)
			}
		}
		table.Restore(filter(t, "a/b"), store.Policy{}) // removed
		if got := table.Effective(filter(t, "a/b"), store.Policy{}).MaxMessages; got != 3 {
			t.Errorf("a/b keeps %d after its own policy was removed", got)
		}
	}
}
