// An agent that counts, asks a tool and waits: ../counter.ts in Go.
//
//	GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -o ../counter-go.wasm .
//
// State is memory: what is in a variable after a turn is there in the next one, whatever happens to the node in
// between. A turn may not wait: what takes time is an effect, and its receipt comes in a later turn.
package main

import (
	"encoding/json"
	"fmt"
	"unsafe"
)

type event struct {
	T      string          `json:"t"`
	ID     json.RawMessage `json:"id"`
	IDs    []string        `json:"ids"`
	Method string          `json:"method"`
	Args   json.RawMessage `json:"args"`
	OK     bool            `json:"ok"`
	Value  json.RawMessage `json:"value"`
	Error  json.RawMessage `json:"error"`
}

type effect struct {
	C    int    `json:"c"`
	Inv  string `json:"inv"`
	Tool string `json:"tool"`
	Args any    `json:"args"`
}

type reply struct {
	Inv   string `json:"inv"`
	OK    bool   `json:"ok"`
	Value any    `json:"value"`
}

type problem struct {
	Class   string `json:"class"`
	Code    string `json:"code"`
	Message string `json:"message"`
}

type output struct {
	Effects []effect `json:"effects"`
	Replies []reply  `json:"replies"`
	Logs    [][2]any `json:"logs"`
	Drops   []int    `json:"drops"`
}

type wait struct {
	invocation string
	price      bool
}

var (
	count   int64
	next    = 1
	waiting = map[int]wait{}
	// Kept until the host has read or written them.
	input, answer []byte
)

const about = `{"version":1,"methods":{"add":{"about":"adds n to the count"},"total":{"shared":true},
	"price":{"about":"what rates.get says of a currency"},"nap":{"about":"waits for so many milliseconds"}}}`

func (o *output) perform(invocation, tool string, args any, price bool) {
	o.Effects = append(o.Effects, effect{next, invocation, tool, args})
	waiting[next] = wait{invocation, price}
	next++
}

func (o *output) invoke(e event, id string) {
	var args struct {
		N        int64  `json:"n"`
		Ms       int64  `json:"ms"`
		Currency string `json:"currency"`
	}
	_ = json.Unmarshal(e.Args, &args) // What is left out is zero, as in the other two.
	switch e.Method {
	case "add":
		count += args.N
		o.Logs = append(o.Logs, [2]any{"info", fmt.Sprintf("counted to %d", count)})
		o.Replies = append(o.Replies, reply{id, true, count})
	case "total":
		o.Replies = append(o.Replies, reply{id, true, count})
	case "price":
		o.perform(id, "rates.get", map[string]any{"currency": args.Currency}, true)
	case "nap":
		o.perform(id, "cardinal.sleep", map[string]any{"ms": args.Ms}, false)
	default:
		o.Replies = append(o.Replies, reply{id, false, problem{"Thrown", "Thrown", "no such method"}})
	}
}

func (o *output) receive(e event) {
	var id int
	_ = json.Unmarshal(e.ID, &id)
	of, known := waiting[id]
	if !known {
		return
	}
	delete(waiting, id)
	switch {
	case !e.OK:
		o.Replies = append(o.Replies, reply{of.invocation, false, e.Error})
	case of.price:
		o.Replies = append(o.Replies, reply{of.invocation, true, map[string]any{"count": count, "rate": e.Value}})
	default:
		o.Replies = append(o.Replies, reply{of.invocation, true, count})
	}
}

// stop ends the waits of an invocation. Numbers are looked at in order: the order of a map is no state.
func (o *output) stop(id string, cancelled bool) {
	for n := 1; n < next; n++ {
		if of, known := waiting[n]; known && of.invocation == id {
			delete(waiting, n)
			o.Drops = append(o.Drops, n)
			if cancelled {
				o.Replies = append(o.Replies, reply{id, false, problem{"Cancelled", "Cancelled", "cancelled"}})
			}
		}
	}
}

func turn(events []event) any {
	out := output{[]effect{}, []reply{}, [][2]any{}, []int{}}
	for _, e := range events {
		var id string
		_ = json.Unmarshal(e.ID, &id) // Of a receipt it is a number.
		switch e.T {
		case "describe":
			return json.RawMessage(about)
		case "invoke":
			out.invoke(e, id)
		case "receipt":
			out.receive(e)
		case "cancel":
			out.stop(id, true)
		case "abandon":
			for _, id := range e.IDs {
				out.stop(id, false)
			}
		}
	}
	return out
}

//go:wasmexport cardinal_alloc
func alloc(size int32) unsafe.Pointer {
	input = make([]byte, max(size, 1))
	return unsafe.Pointer(&input[0])
}

//go:wasmexport cardinal_turn
func cardinalTurn(at unsafe.Pointer, size int32) int64 {
	var events []event
	if err := json.Unmarshal(unsafe.Slice((*byte)(at), size), &events); err != nil {
		panic(err)
	}
	made, err := json.Marshal(turn(events))
	if err != nil {
		panic(err)
	}
	answer = made
	return int64(uintptr(unsafe.Pointer(&answer[0])))<<32 | int64(len(answer))
}

func main() {}
