package session

import (
	"encoding/json"
	"slices"
	"strings"
	"time"
	"unique"

	"github.com/watchbox-go/watchbox/internal/group"
)

// record is a document as it is stored.
type record struct {
	Subject  *string               `json:"subject,omitempty"`
	Address  string                `json:"address"`
	Client   *string               `json:"client,omitempty"` // its id
	Agent    string                `json:"agent,omitempty"`
	Protocol string                `json:"protocol,omitempty"`
	Since    int64                 `json:"since,omitempty"` // Unix nanoseconds, as all times
	Nodes    map[string]nodeRecord `json:"nodes,omitempty"` // by hub
	Members  []memberRecord        `json:"members,omitempty"`
	Lost     int64                 `json:"lost,omitempty"`
	Why      Reason                `json:"why,omitempty"`
	Epoch    string                `json:"epoch,omitempty"` // of Reached
	Reached  uint64                `json:"reached,omitempty"`
	Keep     seconds               `json:"keep,omitempty"`
	Will     *Will                 `json:"will,omitempty"`
	Hub      string                `json:"hub"`            // that wrote it
	Gone     Reason                `json:"gone,omitempty"` // the session has ended, and other hubs have to end its streams
	Tell     bool                  `json:"tell,omitempty"` // and its client has to be told
	Change   uint64                `json:"change"`         // tells apart the changes of a hub
}

type nodeRecord struct {
	Filters []string `json:"filters,omitempty"`
	Beat    int64    `json:"beat,omitempty"` // nanoseconds
	Polls   bool     `json:"polls,omitempty"`
	Newest  uint32   `json:"newest,omitempty"` // see node
}

type memberRecord struct {
	Filter string `json:"filter"`
	Lost   int64  `json:"lost,omitempty"`
	Why    Reason `json:"why,omitempty"`
}

// Version returns the version of the document that the change is based on, 0 if there is none.
func (x *Change) Version() uint64 { return x.version }

// Next returns the version that the document has with the change, or at which it was removed, once the change has happened.
func (x *Change) Next() uint64 { return x.next }

// Gone returns why the session ends, or "".
func (x *Change) Gone() Reason { return x.gone }

// Document returns the document to store, or nil if it is to be removed.
func (x *Change) Document() []byte {
	out := record{Hub: x.self, Change: x.number}
	switch {
	case x.gone != "" && len(x.nodes) == 0 && !x.tell:
		return nil
	case x.gone != "":
		out.Gone, out.Tell = x.gone, x.tell
	default:
		d := &x.doc
		agent := d.client.Agent.Value()
		out = record{
			Hub: x.self, Change: x.number, Subject: x.session.subject.Load(), Address: d.client.Address, Client: d.client.ID,
			Agent: agent.UserAgent, Protocol: agent.Protocol, Since: d.since, Lost: d.lostAt, Why: d.why, Epoch: d.reached.Epoch, Reached: d.reached.Seq, Keep: d.keep, Will: d.will, Nodes: map[string]nodeRecord{},
		}
		for _, m := range d.members {
			out.Members = append(out.Members, memberRecord{m.filter.String(), m.lostAt, m.why})
		}
		for _, n := range x.nodes {
			out.Nodes[n.hub] = nodeRecord{group.Set(n.filters).Strings(), int64(n.beat), n.polls, n.newest}
		}
		if x.streams {
			out.Nodes[x.self] = nodeRecord{group.Set(x.here).Strings(), int64(x.beat), x.polls, x.newest}
		}
	}
	b, err := json.Marshal(&out)
	if err != nil {
		panic("session: a document: " + err.Error()) // impossible: strings, numbers and bytes
	}
	return b
}

// document returns the document of a record. Times when something was lost are wall-clock times only.
func (in *record) document() (*document, []node, error) {
	d := &document{
		begun: true, client: Client{Address: in.Address, ID: in.Client, Agent: unique.Make(Agent{in.Agent, in.Protocol})}, since: in.Since,
		lostAt: in.Lost, why: in.Why, reached: Position{in.Epoch, in.Reached}, keep: in.Keep, will: in.Will,
	}
	for _, m := range in.Members {
		f, err := group.ParseFilter(m.Filter)
		if err != nil {
			return nil, nil, err
		}
		d.members = append(d.members, member{filter: f, lostAt: m.Lost, why: m.Why})
	}
	var nodes []node
	for hub, n := range in.Nodes {
		list := make([]group.Filter, len(n.Filters))
		for i, text := range n.Filters {
			f, err := group.ParseFilter(text)
			if err != nil {
				return nil, nil, err
			}
			list[i] = f
		}
		nodes = append(nodes, node{hub, list, time.Duration(n.Beat), n.Polls, n.Newest})
	}
	slices.SortFunc(nodes, func(a, b node) int { return strings.Compare(a.hub, b.hub) })
	return d, nodes, nil
}
