package report

// Leg names one of the compared ways to decide: a kind of server together with the client that asks it.
type Leg struct {
	// Name is the leg's name in flags and files, Title its name in tables and pictures.
	Name, Title string
}

// The legs. The product is Validator, asked in unary calls, and Stream, asked over streams. The others are
// what the product is compared with.
var (
	Empty      = Leg{"empty", "empty server, default settings"}
	TunedEmpty = Leg{"tuned-empty", "tuned empty server"}
	Validator  = Leg{"validator", "validator, unary Authorize"}
	Stream     = Leg{"stream", "validator, streams of the client"}
	Redis      = Leg{"redis", "Redis asked per request, default settings"}
	TunedRedis = Leg{"tuned-redis", "Redis asked per request, tuned"}
	// Uncounted and UncountedStream are validators that count no decisions, asked like Validator and Stream.
	Uncounted       = Leg{"uncounted", "validator without counting, unary"}
	UncountedStream = Leg{"uncounted-stream", "validator without counting, streams"}
)

// Class is a class of the pictures' style sheet.
type Class string

// The classes: the product, the empty servers that show the least cost of any server, and other designs.
const (
	Product   Class = "ours"
	Reference Class = "reference"
	Other     Class = "other"
)

// ClassOf returns the class of a leg by its name.
func ClassOf(leg string) Class {
	switch leg {
	case Empty.Name, TunedEmpty.Name:
		return Reference
	case Redis.Name, TunedRedis.Name, Uncounted.Name, UncountedStream.Name:
		return Other
	}
	return Product
}
