package gateway

import (
	"container/list"
	"sync"
	"time"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
)

// refusals has the last distinct addresses that were refused. Its zero value is ready.
type refusals struct {
	mu        sync.Mutex
	order     list.List // of *control.Refusal, the latest first
	byAddress map[string]*list.Element
}

// maxAddress is longer than every address. It bounds what is no address.
const maxAddress = 64

func (r *refusals) add(address, peer, reason string, now time.Time) {
	address, peer = address[:min(len(address), maxAddress)], peer[:min(len(peer), maxAddress)]
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byAddress == nil {
		r.byAddress = make(map[string]*list.Element)
	}
	element := r.byAddress[address]
	if element == nil {
		if r.order.Len() == control.MaxRefusals {
			oldest := r.order.Back()
			delete(r.byAddress, r.order.Remove(oldest).(*control.Refusal).Address)
		}
		element = r.order.PushFront(&control.Refusal{Address: address, First: now})
		r.byAddress[address] = element
	}
	r.order.MoveToFront(element)
	refusal := element.Value.(*control.Refusal)
	refusal.Peer, refusal.Reason, refusal.Last = peer, reason, now
	refusal.Count++
}

// list returns a copy, the latest first.
func (r *refusals) list() []control.Refusal {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]control.Refusal, 0, r.order.Len())
	for element := r.order.Front(); element != nil; element = element.Next() {
		all = append(all, *element.Value.(*control.Refusal))
	}
	return all
}
