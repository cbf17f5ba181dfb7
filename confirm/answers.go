package confirm

import "time"

const (
	// rememberFor is how long a final answer stands for another question about its task, so
	// that many different callbacks of one task do not use up the rate.
	rememberFor = time.Minute

	// mostAnswers and longestAnswer, in bytes, bound what is remembered.
	mostAnswers   = 256
	longestAnswer = 16 << 10
)

// answers are the final answers of the last minute, by the ids of their tasks.
type answers struct {
	byTask map[string]answer
	order  []string // the oldest first
}

type answer struct {
	text  []byte
	until time.Time
}

func (a *answers) get(taskID string, now time.Time) []byte {
	if known, ok := a.byTask[taskID]; ok && now.Before(known.until) {
		return known.text
	}
	return nil
}

func (a *answers) add(taskID string, text []byte, now time.Time) {
	if a.get(taskID, now) != nil || len(text) > longestAnswer {
		return
	}
	if a.byTask == nil {
		a.byTask = make(map[string]answer)
	}
	if _, ok := a.byTask[taskID]; !ok {
		if len(a.order) == mostAnswers {
			delete(a.byTask, a.order[0])
			a.order = a.order[1:]
		}
		a.order = append(a.order, taskID)
	}
	a.byTask[taskID] = answer{text, now.Add(rememberFor)}
}
