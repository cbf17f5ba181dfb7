package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/fotor-webhook/caddy-fotor-webhook/control"
	"github.com/fotor-webhook/caddy-fotor-webhook/inbox"
	"github.com/fotor-webhook/caddy-fotor-webhook/internal/logfield"
	"github.com/fotor-webhook/caddy-fotor-webhook/reconcile"
)

// Asking is how Fotor is asked for tasks whose final callbacks do not come.
type Asking struct {
	Fotor    Fotor
	Schedule reconcile.Schedule
	Rate     float64 // questions a second, as the config says
	Metrics  AskingMetrics

	// Confirm is how final callbacks are confirmed; nil if they are delivered without that.
	Confirm *Confirm
}

// Fotor puts questions.
type Fotor interface {
	reconcile.Limited

	// Account stands for the account that is asked; it is no secret.
	Account() string

	// Rate returns the questions a second that are put at most at the moment.
	Rate() float64

	// Target returns the scheme and host that is asked.
	Target() string
}

// AskingMetrics counts what is asked.
type AskingMetrics interface {
	// Asked counts a question, and how long it took.
	Asked(r reconcile.Result, took time.Duration)

	// TaskLost counts a task that was given up.
	TaskLost()
}

// asker asks Fotor for the tasks and the callbacks of a gateway, as one attachment's config
// says.
type asker struct {
	gateway    *Gateway
	att        *Attachment
	config     *Config
	reconciler *reconcile.Reconciler // nil if Fotor is not asked
	share      *share                // nil if the inbox is not shared, or Fotor is not asked
	cancel     context.CancelFunc
	ended      chan struct{}
}

// Asking returns whether Fotor can be asked for tasks, nil if the config does not want that.
func (g *Gateway) Asking() *control.Asking {
	g.mu.Lock()
	a := g.asker
	g.mu.Unlock()
	if a == nil || a.reconciler == nil {
		return nil
	}
	fotor, s := a.config.Asking.Fotor, a.reconciler.State()
	answer := &control.Asking{
		URL: fotor.Target(), State: control.AskingWorks, Since: s.Since.UTC(), Reason: s.Reason,
		Rate: fotor.Rate(), ConfigRate: a.config.Asking.Rate,
	}
	switch {
	case s.KeyRefused:
		answer.State = control.AskingKeyRefused
		answer.Rate = 0
	case s.Unreachable:
		answer.State = control.AskingUnreachable
	}
	if how := a.config.confirms(); how != nil {
		answer.Confirm = &control.Confirm{OnFailure: "deliver", Patience: how.Patience.String()}
		if how.Hold {
			answer.Confirm.OnFailure = "hold"
		}
	}
	a.share.tell(answer)
	return answer
}

// canAsk returns an error if a config wants Fotor to be asked, but the inbox cannot
// remember for what.
func (g *Gateway) canAsk(c *Config) error {
	if c.Asking == nil {
		return nil
	}
	if _, ok := g.inbox.(inbox.Tracker); !ok {
		return fmt.Errorf("fotor_api: the inbox %s cannot track tasks: expected one that can, such as sqlite", c.Key)
	}
	return nil
}

// askAsNewest has the newest attachment's config decide how Fotor is asked, from now on.
// One that was in force before ends, without being waited for: leases make sure that a task
// has one owner. It is returned. The caller has locked g.mu.
func (g *Gateway) askAsNewest() (before *asker) {
	var att *Attachment
	if n := len(g.attachments); n > 0 {
		att = g.attachments[n-1]
	}
	before = g.asker
	if before != nil {
		if before.att == att {
			return nil
		}
		before.cancel()
		g.asker = nil
	}
	if att != nil && g.hold() {
		g.asker = g.ask(att, before)
	}
	return before
}

// ask begins to ask. The gateway is held, and dropped at the end. before is who asked until
// now, nil if nobody did.
func (g *Gateway) ask(att *Attachment, before *asker) *asker {
	ctx, cancel := context.WithCancel(context.Background())
	a := &asker{
		gateway: g, att: att, config: att.config,
		cancel: cancel, ended: make(chan struct{}),
	}
	c := &confirming{gateway: g, att: att, config: att.config, before: before}
	work := []func(context.Context){c.deliverLeft}
	if asking := att.config.Asking; asking != nil {
		fotor := reconcile.Asker(asking.Fotor)
		if a.share = g.joinShare(att.config); a.share != nil {
			fotor = a.share.Use(asking.Fotor, asking.Rate)
			a.share.run()
		}
		a.reconciler = reconcile.New(reconcile.Config{
			Tasks: g.inbox.(inbox.Tracker), Fotor: fotor, Events: a, Observer: a, Schedule: asking.Schedule,
		})
		work = append(work, a.reconciler.Run)
	}
	if att.config.confirms() != nil {
		c.asker, work[0] = a, c.run
	}
	go func() {
		defer close(a.ended)
		defer func() {
			if err := g.Drop(); err != nil {
				a.config.Logger.Error("after the last question to Fotor", zap.Error(err))
			}
		}()
		defer g.leaveShare(a.share)
		var parts sync.WaitGroup
		for _, part := range work {
			parts.Go(func() { part(ctx) })
		}
		parts.Wait()
	}()
	return a
}

// await waits until nothing is asked any more, at most for a time.
func (a *asker) await(grace time.Duration) {
	if a == nil {
		return
	}
	select {
	case <-a.ended:
	case <-time.After(grace):
		a.config.Logger.Warn("the last questions to Fotor have not ended; those tasks will be asked for again", zap.Duration("waited", grace))
	}
}

// Take implements reconcile.Events.
func (a *asker) Take(ctx context.Context, t inbox.Task, answer []byte) (reconcile.Meaning, string, error) {
	event, meaning, text, err := a.read(ctx, t.ID, answer)
	if meaning != reconcile.Final || err != nil {
		return meaning, text, err
	}
	duplicate, err := a.att.journal.put(ctx, a.gateway, event, netip.Addr{})
	if err != nil {
		return 0, "", err
	}
	a.config.Logger.Info("event of an answer of Fotor's", logfield.Event(event, zap.Bool("duplicate", duplicate))...)
	return meaning, text, nil
}

// read returns what an answer about a task means, in short too, and its event. One that no
// callback could have is in quarantine then.
func (a *asker) read(ctx context.Context, taskID string, answer []byte) (event *inbox.Event, m reconcile.Meaning, text string, err error) {
	now := time.Now()
	event, err = a.config.Handler.Reconsider(answer, now, netip.Addr{})
	invalid, ok := errors.AsType[*control.InvalidError](err)
	switch {
	case ok:
		return nil, reconcile.Invalid, whyInvalid(invalid), a.quarantine(ctx, answer, invalid, now)
	case err != nil:
		return nil, 0, "", err
	case event.TaskID != taskID:
		return nil, 0, "", fmt.Errorf("the answer is about task %.80q", event.TaskID)
	case !event.Status.Final():
		return event, reconcile.InProgress, event.Status.String(), nil
	default:
		return event, reconcile.Final, event.Status.String(), nil
	}
}

// whyInvalid returns the first problem of an answer.
func whyInvalid(invalid *control.InvalidError) string {
	if len(invalid.Problems) == 0 {
		return "not a callback"
	}
	p := invalid.Problems[0]
	return fmt.Sprintf("not a callback: %s %s", p.Pointer, p.Detail)
}

// quarantine keeps an answer that no callback could be made of.
func (a *asker) quarantine(ctx context.Context, answer []byte, invalid *control.InvalidError, now time.Time) error {
	if a.config.Policy.Quarantine == 0 {
		return nil
	}
	problems, err := json.Marshal(invalid.Problems)
	if err != nil {
		return err
	}
	suspect := &inbox.Suspect{
		ReceivedAt: now.UTC().Truncate(time.Microsecond), Status: invalid.Status, Problems: problems, Body: answer,
	}
	err = a.gateway.inbox.Quarantine(ctx, suspect)
	if errors.Is(err, inbox.ErrTooLarge) { // it will never be kept
		a.att.journal.tooLarge(a.config.Logger, err)
		return nil
	}
	if err != nil {
		return err
	}
	a.att.journal.Quarantined(suspect, netip.Addr{}, "an answer of Fotor's task API is not valid", len(invalid.Problems))
	return nil
}

// unknownType is the type of a lost task of which no callback came.
const unknownType = "unknown"

// Lose implements reconcile.Events.
func (a *asker) Lose(ctx context.Context, t inbox.Task) error {
	taskType := unknownType
	records, _, err := a.gateway.inbox.List(ctx, inbox.Filter{TaskID: t.ID}, inbox.Page{Limit: 1})
	if err != nil {
		return fmt.Errorf("looking for its last event: %w", err)
	}
	if len(records) > 0 {
		taskType = records[0].Event.Type
	}
	event := a.config.Handler.Lost(t, taskType, time.Now())
	duplicate, err := a.att.journal.put(ctx, a.gateway, event, netip.Addr{})
	if err == nil && !duplicate { // else it was told before
		a.att.journal.lost(event, t)
	}
	return err
}

// Asked implements reconcile.Observer.
func (a *asker) Asked(t inbox.Task, r reconcile.Result, took time.Duration, err error) {
	a.config.Asking.Metrics.Asked(r, took)
	level := zap.DebugLevel
	switch r {
	case reconcile.ResultInvalid, reconcile.ResultUnusable, reconcile.ResultNotStored:
		level = zap.WarnLevel
	case reconcile.ResultFinal, reconcile.ResultInProgress, reconcile.ResultNotKnown,
		reconcile.ResultTooOften, reconcile.ResultKeyRefused, reconcile.ResultFailed:
	}
	if line := a.config.Logger.Check(level, "Fotor was asked for a task"); line != nil {
		line.Write(zap.String("task_id", logfield.Cut(t.ID)), zap.String("result", string(r)), zap.Int("asked", t.Asked+1),
			zap.Duration("took", took), zap.Error(err))
	}
}

// Lost implements reconcile.Observer.
func (a *asker) Lost(t inbox.Task) {
	a.config.Asking.Metrics.TaskLost()
	a.config.Logger.Warn("task lost: Fotor says no end of it",
		zap.String("task_id", logfield.Cut(t.ID)), zap.Time("since", t.Since), zap.Int("asked", t.Asked), zap.String("answer", t.Answer))
}

// Changed implements reconcile.Observer.
func (a *asker) Changed(s reconcile.State) {
	log := a.config.Logger.With(zap.String("url", a.config.Asking.Fotor.Target()))
	switch {
	case s.KeyRefused:
		log.Error("Fotor refuses the key of fotor_api: nothing is asked until the config is reloaded with another one", zap.String("error", s.Reason))
	case s.Unreachable:
		log.Warn("Fotor's task API cannot be asked; it is tried at growing intervals", zap.String("error", s.Reason))
	default:
		log.Info("Fotor's task API can be asked again")
	}
}

// Failed implements reconcile.Observer.
func (a *asker) Failed(err error) {
	a.config.Logger.Error("asking Fotor", zap.Error(err))
}

// Interface guards
var (
	_ reconcile.Events   = (*asker)(nil)
	_ reconcile.Observer = (*asker)(nil)
)
