package mock

import (
	"encoding/hex"
	random "math/rand/v2"
	"net/url"
	"time"
)

// ForgedHost is the host of the URLs in forged callbacks.
const ForgedHost = "forged.example"

// task is a task and what is to become of it. It does not change once it is made.
type task struct {
	id, business string
	kind         Kind
	created      time.Time
	finished     time.Time // when it has its outcome
	outcome      *Object
	forgery      *Object // that a stranger sends; nil for none

	lostProgress, lost, duplicated bool
}

// Outcome is the truth about a task.
type Outcome struct {
	TaskID string
	Type   string

	// Status is InProgress until the task has its outcome, then Completed or Failed.
	Status int

	// Final is what the task becomes, or has become: the data of the API's answer then.
	Final *Object

	// At is when.
	At time.Time

	// Lost says that the final callback is not sent, Duplicated that it is sent twice, and
	// Forged that a forged one about this task is sent.
	Lost, Duplicated, Forged bool
}

// reader makes random bytes.
type reader struct{ *random.Rand }

func (r reader) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return len(p), nil
}

func idFrom(chance *random.Rand) string {
	var id [16]byte
	_, _ = reader{chance}.Read(id[:]) // has no error
	return hex.EncodeToString(id[:])
}

// newTask makes the task with that number. Nothing else decides about its id and its fate.
func (s *Server) newTask(number uint64, kind Kind, now time.Time) (*task, *random.Rand, error) {
	chance := random.New(random.NewPCG(s.config.Seed, number))
	t := &task{id: idFrom(chance), business: s.business, kind: kind, created: now}
	t.finished = now.Add(time.Duration(float64(s.config.Delay) * (0.5 + chance.Float64())))
	status, c := Completed, &s.config
	if chance.Float64() < c.Fail {
		status = Failed
	}
	t.lostProgress = chance.Float64() < c.Lose
	t.lost = chance.Float64() < c.Lose
	t.duplicated = chance.Float64() < c.Duplicate && !t.lost
	forged := chance.Float64() < c.Forge
	var err error
	if t.outcome, err = s.object(t, chance, status); err == nil && forged {
		t.forgery, err = s.forge(t, chance)
	}
	return t, chance, err
}

// object makes a task's object with a final status.
func (s *Server) object(t *task, chance *random.Rand, status int) (*Object, error) {
	o, err := t.kind.Make(reader{chance}, t.finished, t.id, t.business, status)
	if err != nil {
		return nil, err
	}
	o.CreateTime, o.UpdateTime = t.created.UnixMilli(), t.finished.UnixMilli()
	if status == Failed {
		o.Msg = "generation failed"
	}
	if s.config.S3 {
		changeURLs(o, func(u *url.URL) { u.Scheme, u.Host = "s3", "img-pub-fotor" }, true)
	}
	return o, nil
}

// changeURLs changes the URLs of an object, or those of avatars only.
func changeURLs(o *Object, change func(*url.URL), avatars bool) {
	apply := func(text *string) {
		if u, err := url.Parse(*text); err == nil && *text != "" {
			change(u)
			*text = u.String()
		}
	}
	for i := range o.AvatarResult {
		for j := range o.AvatarResult[i].Images {
			apply(&o.AvatarResult[i].Images[j].URL)
		}
	}
	if avatars {
		return
	}
	if o.ResultURL != nil {
		apply(o.ResultURL)
	}
	for i := range o.Result {
		apply(&o.Result[i].URL)
	}
}

// progress is the object of a task that is in progress.
func (t *task) progress() *Object {
	return &Object{
		TaskID: t.id, CreateTime: t.created.UnixMilli(), UpdateTime: t.created.UnixMilli(),
		Status: InProgress, BusinessID: t.business, Type: t.kind.Type,
	}
}

// at returns the object of a task as it is at a time.
func (t *task) at(now time.Time) *Object {
	if now.Before(t.finished) {
		return t.progress()
	}
	return t.outcome
}

func (t *task) truth(now time.Time) Outcome {
	return Outcome{
		TaskID: t.id, Type: t.kind.Type, Status: t.at(now).Status, Final: t.outcome, At: t.finished,
		Lost: t.lost, Duplicated: t.duplicated, Forged: t.forgery != nil && t.forgery.TaskID == t.id,
	}
}

// Outcome returns the truth about a task, and whether it is known.
func (s *Server) Outcome(taskID string) (Outcome, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tasks[taskID]
	if t == nil {
		return Outcome{}, false
	}
	return t.truth(time.Now()), true
}

// Outcomes returns the truth about all tasks that are known, in the order of their submission.
func (s *Server) Outcomes() []Outcome {
	s.mu.Lock()
	defer s.mu.Unlock()
	all, now := make([]Outcome, 0, len(s.order)), time.Now()
	for _, t := range s.order {
		all = append(all, t.truth(now))
	}
	return all
}

// Submit submits a task of a type, as a request does, and returns its id; "" if too many
// callbacks wait.
func (s *Server) Submit(taskType string) (taskID string) {
	s.mu.Lock()
	if s.waiting >= s.config.MaxTasks {
		s.mu.Unlock()
		return ""
	}
	s.number++
	t, chance, err := s.newTask(s.number, Kind{Type: taskType}, time.Now())
	if err != nil {
		s.mu.Unlock()
		panic(err) // JSON of strings and numbers
	}
	for len(s.order) >= s.config.MaxTasks {
		delete(s.tasks, s.order[0].id)
		s.order = s.order[1:]
	}
	s.tasks[t.id] = t
	s.order = append(s.order, t)
	s.counts.Submitted++
	if t.outcome.Status == Failed {
		s.counts.Failed++
	}
	s.mu.Unlock()
	s.log(&Entry{Kind: Submitted, TaskID: t.id, Type: t.kind.Type})
	if s.config.Callback != "" {
		s.plan(t, chance)
	}
	return t.id
}

// forge makes a final callback of a stranger: about the task, or about none.
func (s *Server) forge(t *task, chance *random.Rand) (*Object, error) {
	about, status := *t, Completed
	if chance.IntN(3) == 0 {
		about.id = idFrom(chance)
	} else if t.outcome.Status == Completed && chance.IntN(2) == 0 {
		status = Failed
	}
	o, err := s.object(&about, chance, status)
	if err != nil {
		return nil, err
	}
	changeURLs(o, func(u *url.URL) { u.Scheme, u.Host = "https", ForgedHost }, false)
	return o, nil
}
