//go:build !windows

package mqtt_test

import (
	"bufio"
	"encoding/json"
	"net"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// command is a program whose lines are read as they come.
type command struct {
	t     testing.TB
	cmd   *exec.Cmd
	lines chan string
	stop  func()
}

// start starts a program. It ends with the test.
func start(t testing.TB, name string, args ...string) *command {
	t.Helper()
	c := &command{t: t, cmd: exec.Command(name, args...), lines: make(chan string, 10_000)}
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // it ends with all that it has started
	out, err := c.cmd.StdoutPipe()
	if err == nil {
		c.cmd.Stderr = c.cmd.Stdout
		err = c.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		in := bufio.NewScanner(out)
		in.Buffer(nil, 1<<20)
		for in.Scan() {
			c.lines <- in.Text()
		}
		close(c.lines)
	}()
	c.stop = sync.OnceFunc(func() {
		_ = syscall.Kill(-c.cmd.Process.Pid, syscall.SIGKILL) // it may have ended
		<-ended
		_ = c.cmd.Wait() // it was killed
	})
	t.Cleanup(c.stop)
	return c
}

// until returns the lines up to one that contains a text.
func (c *command) until(text string) (lines []string) {
	c.t.Helper()
	for deadline := time.After(patience); ; {
		select {
		case line, ok := <-c.lines:
			if !ok {
				c.t.Fatalf("%s has ended before it printed %q: %q", c.cmd.Args, text, lines)
			}
			if lines = append(lines, line); strings.Contains(line, text) {
				return lines
			}
		case <-deadline:
			c.t.Fatalf("%s has not printed %q: %q", c.cmd.Args, text, lines)
		}
	}
}

// mosquitto returns the arguments of mosquitto_pub and mosquitto_sub for a broker.
func (b *broker) mosquitto(args ...string) []string {
	host, port, err := net.SplitHostPort(b.addr)
	if err != nil {
		b.t.Fatal(err)
	}
	return append([]string{"-h", host, "-p", port}, args...)
}

// run runs a program to its end, and returns what it printed.
func run(t testing.TB, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
	return string(out)
}

// TestMosquittoCommands publishes with mosquitto_pub what mosquitto_sub prints, in each version and QoS.
func TestMosquittoCommands(t *testing.T) {
	b := serve(t)
	for _, version := range []string{"mqttv311", "mqttv5"} {
		for _, qos := range []string{"0", "1", "2"} {
			t.Run(version+" "+qos, func(t *testing.T) {
				topic := "commands/" + version + "/" + qos
				sub := start(t, "stdbuf", append([]string{"-oL", "mosquitto_sub"}, b.mosquitto("-V", version, "-q", qos, "-v", "-d", "-t", topic+"/#")...)...)
				sub.until("Subscribed")
				want := []string{topic + "/a one", topic + "/b two words", topic + "/a {\"n\": 3}"}
				for _, line := range want {
					at, text, _ := strings.Cut(line, " ")
					run(t, "mosquitto_pub", b.mosquitto("-V", version, "-q", qos, "-t", at, "-m", text)...)
				}
				got := slices.DeleteFunc(sub.until(`{"n": 3}`), func(line string) bool { return !strings.HasPrefix(line, topic) })
				if !slices.Equal(got, want) {
					t.Errorf("received %q, want %q", got, want)
				}
			})
		}
	}
}

// TestMosquittoSubAndCurlShowTheSame: an MQTT and an HTTP listener get the same messages in the same order, whichever
// way they were sent.
func TestMosquittoSubAndCurlShowTheSame(t *testing.T) {
	b := hub(t)
	sub := start(t, "stdbuf", append([]string{"-oL", "mosquitto_sub"}, b.mosquitto("-V", "mqttv5", "-q", "1", "-v", "-d", "-t", "home/#")...)...)
	sub.until("Subscribed")
	curl := start(t, "curl", "-sN", b.url+"/v1/groups/home/%23")
	curl.until(": session") // its event
	var want []string
	for i := range 30 {
		topic := "home/" + string(rune('a'+i%3))
		text := "text " + string(rune('A'+i))
		if i%2 == 0 {
			run(t, "mosquitto_pub", b.mosquitto("-q", string(rune('0'+i%3)), "-t", topic, "-m", text)...)
		} else {
			run(t, "curl", "-sf", "-d", text, b.url+"/v1/groups/"+topic)
		}
		want = append(want, topic+" "+text)
	}
	last := want[len(want)-1]
	bySub := slices.DeleteFunc(sub.until(last), func(line string) bool { return !strings.HasPrefix(line, "home/") })
	var byCurl []string
	for _, line := range curl.until(last[len("home/a "):]) {
		if data, ok := strings.CutPrefix(line, "data: {\"id\""); ok {
			var m struct{ Group, Msg string }
			if err := json.Unmarshal([]byte("{\"id\""+data), &m); err != nil {
				t.Fatal(err)
			}
			byCurl = append(byCurl, m.Group+" "+m.Msg)
		}
	}
	for name, got := range map[string][]string{"mosquitto_sub": bySub, "curl": byCurl} {
		if !slices.Equal(got, want) {
			t.Errorf("%s received %q, want %q", name, got, want)
		}
	}
}
