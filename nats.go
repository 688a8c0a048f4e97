package watchbox

import (
	"errors"
	"fmt"
	"regexp"

	"github.com/watchbox-go/watchbox/store/jetstream"
)

// NATS says where the JetStream servers are that keep the log for several hubs. All hubs with the same
// servers and stream are equal: a client may use any of them, and continue at another.
type NATS struct {
	URL      string // of one server, or of several with commas between them: nats://10.0.0.1:4222,nats://10.0.0.2:4222
	Creds    string // file with the credentials of the account; "": none
	Stream   string // name of the stream; "" means WATCHBOX
	Replicas int    // on how many servers the stream is kept, 1 to 5; 0 means 3. It matters only to the hub that creates the stream
}

// streamName matches the names that are also allowed for the key-value bucket beside the stream, and "".
var streamName = regexp.MustCompile(`^[A-Za-z0-9_-]{0,200}$`)

const maxReplicas = 5 // of a JetStream stream

// WithNATS keeps messages, policies and sessions in a JetStream stream, which several hubs share. New returns
// once the hub has read the stream. It excludes WithDataDir.
func WithNATS(n NATS) Option {
	return func(c *config) error {
		switch {
		case n.URL == "":
			return errors.New("nats: no server is given; give a URL such as nats://127.0.0.1:4222")
		case n.Replicas < 0 || n.Replicas > maxReplicas:
			return fmt.Errorf("nats-replicas: %d is not between 1 and %d", n.Replicas, maxReplicas)
		case !streamName.MatchString(n.Stream):
			return fmt.Errorf("nats-stream: %q is no name of a stream: use up to 200 letters, digits, - and _", n.Stream)
		}
		c.open = nil
		c.nats = jetstream.Options{URL: n.URL, Creds: n.Creds, Stream: n.Stream, Replicas: n.Replicas}
		return nil
	}
}
