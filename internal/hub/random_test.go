package hub

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/watchbox-go/watchbox/internal/access"
	"github.com/watchbox-go/watchbox/internal/group"
	"github.com/watchbox-go/watchbox/internal/session"
	"github.com/watchbox-go/watchbox/store"
)

// life is a random run: clients that use three hubs in any way, and faults of the hubs.
type life struct {
	*rig
	seed   uint64
	faults bool
	wills  int
	check  *checker
}

// hub returns one of the hubs, which may be dead.
func (l *life) hub(r *rand.Rand) *node {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.hubs[r.IntN(len(l.hubs))]
}

// client is a random client. It ignores errors: its hub may be dead or paused.
func (l *life) client(no int) {
	r := rand.New(rand.NewPCG(l.seed, uint64(no)))
	secret := fmt.Sprintf("the-secret-of-number-%d", no)
	uid := session.UID(secret)
	var open []*conn
	will := "" // the newest, while it is certain
	for range 40 {
		time.Sleep(time.Duration(r.Float64() * r.Float64() * float64(8*time.Second)))
		n := l.hub(r)
		f := group.Exact([]string{"x", "y"}[r.IntN(2)])
		switch r.IntN(10) {
		case 0, 1, 2:
			heartbeat := func(s *Subscription) { s.Heartbeat = []time.Duration{0, 0, 3 * time.Second}[r.IntN(3)] }
			if c, err := n.tryListen(secret, []string{"x", "y", "x y"}[r.IntN(3)], heartbeat); err == nil {
				open = append(open, c)
			}
		case 3, 4:
			if len(open) > 0 {
				open[0].leave()
				open = open[1:]
			}
		case 5:
			for _, c := range open {
				if r.IntN(2) == 0 {
					c.Farewell()
					c.Keep(time.Duration(r.IntN(12)) * time.Second)
					will = ""
				}
				c.leave()
			}
			open = nil
		case 6:
			_ = n.JoinGroup(access.Everything, uid, f)
		case 7:
			_ = n.LeaveGroup(uid, f)
		case 8:
			_ = n.EndSession(uid, []session.Reason{session.Kicked, session.Ended}[r.IntN(2)])
			will = ""
		case 9:
			will = l.setWill(n, uid, will, r)
		}
		_ = n.SignOfLife(uid, access.Everything)
	}
	for _, c := range open {
		c.leave()
	}
}

// setWill sets or removes the will of a session. It returns the name of the will that is then in force, if that is certain.
func (l *life) setWill(n *node, uid, old string, r *rand.Rand) string {
	l.mu.Lock()
	l.wills++
	name := strconv.Itoa(l.wills)
	l.mu.Unlock()
	var err error
	if r.IntN(3) == 0 {
		name = ""
		err = n.ClearWill(uid)
	} else {
		delay := []*time.Duration{nil, new(time.Duration), nil}[r.IntN(3)]
		if delay != nil {
			*delay = time.Duration(r.IntN(12)) * time.Second
		}
		d := &Draft{Group: willsPrefix + uid, UID: uid, Kind: JSON, Data: []byte(name)}
		err = n.SetWill(l.Context(), access.Everything, uid, d, delay)
	}
	if err != nil {
		return "" // it may be in force or not
	}
	if old != "" {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.check.over[old] = len(l.log.Messages())
	}
	return name
}

// break breaks hubs until stop is closed, and repairs them.
func (l *life) harm(stop <-chan struct{}) {
	r := rand.New(rand.NewPCG(l.seed, 1000))
	for {
		select {
		case <-time.After(time.Duration(r.IntN(15000)) * time.Millisecond):
		case <-stop:
			return
		}
		n := l.hub(r)
		pause := time.Duration(r.IntN(15000)) * time.Millisecond
		switch r.IntN(4) {
		case 0:
			n.log.Pause()
			time.Sleep(pause)
			n.log.Resume()
		case 1:
			n.log.Cut()
			time.Sleep(pause)
			n.log.Heal()
		case 2:
			n.log.Kill()
			l.replace(n, pause)
		case 3:
			l.replace(n, pause)
		}
	}
}

// replace closes a hub, and starts another one in its place.
func (l *life) replace(n *node, pause time.Duration) {
	_ = n.Close()
	time.Sleep(pause)
	young := l.begin(n.at)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.hubs[n.at] = young
}

// live runs the life and returns what was wrong with it.
func (l *life) live(clients int) []string {
	var all, harm sync.WaitGroup
	stop := make(chan struct{})
	if l.faults {
		harm.Go(func() { l.harm(stop) })
	}
	for no := range clients {
		all.Go(func() { l.client(no) })
	}
	all.Wait()
	close(stop)
	harm.Wait()
	time.Sleep(2 * time.Minute)
	synctest.Wait()
	l.check.all(l.log.Messages())
	for uid, members := range l.check.state {
		for f, is := range members {
			if is != "none" {
				l.check.fail("at the end %s is %s in %s", uid, is, f)
			}
		}
	}
	for _, key := range l.log.Notes() {
		if strings.HasPrefix(key, sessionNotes) {
			l.check.fail("at the end the note %s is left", key)
		}
	}
	for _, n := range l.hubs {
		if sessions, wills := n.sessions.Len(), n.wills.Load(); sessions != 0 || wills != 0 {
			l.check.fail("at the end hub %d has %d sessions, and %d bytes of wills", n.at, sessions, wills)
		}
	}
	if !l.faults {
		l.checkCallbacks()
	}
	return l.check.wrong
}

// checkCallbacks checks that each session that connected has disconnected once.
func (l *life) checkCallbacks() {
	for uid, list := range l.events {
		connects, disconnects := 0, 0
		for _, e := range list {
			if strings.HasPrefix(e, "connect") {
				connects++
			}
			if strings.HasPrefix(e, "disconnect") {
				disconnects++
			}
		}
		if connects != disconnects {
			l.check.fail("%s connected %d times and disconnected %d times", uid, connects, disconnects)
		}
	}
}

// rounds returns how many random lives to run. WATCHBOX_TEST_SCALE multiplies it.
func rounds(n int) uint64 {
	if scale, err := strconv.Atoi(os.Getenv("WATCHBOX_TEST_SCALE")); err == nil {
		n *= scale
	}
	return uint64(n)
}

func TestRandomSessionsOnThreeHubs(t *testing.T) {
	for _, c := range []struct {
		name   string
		faults bool
		delay  time.Duration
		unsure int
	}{
		{"at once", false, 0, 0},
		{"slow log", false, 300 * time.Millisecond, 0},
		{"faults", true, 20 * time.Millisecond, 0},
		{"faults and unknown outcomes", true, 100 * time.Millisecond, 50},
	} {
		t.Run(c.name, func(t *testing.T) {
			for seed := range rounds(5) {
				var wrong []string
				var list []store.Message
				inRig(t, 3, func(r *rig) {
					r.log.Delay, r.log.Unknown = c.delay, c.unsure
					l := &life{rig: r, seed: seed, faults: c.faults, check: newChecker()}
					wrong, list = l.live(6), r.log.Messages()
				})
				for _, w := range wrong {
					t.Errorf("seed %d of %d messages: %s", seed, len(list), w)
				}
			}
		})
	}
}
