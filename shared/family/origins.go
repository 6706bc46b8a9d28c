package family

import (
	"slices"

	"sentinel-envoy/shared/request"
	"sentinel-envoy/shared/rule"
)

// Origins finds out whether a stream comes from one of a rule's origins.
type Origins struct {
	of    *rule.Origins
	param *request.Parameter
}

// NewOrigins returns the origins of a rule, which streams name.
func NewOrigins(of *rule.Origins, s *request.Stream) *Origins {
	return &Origins{of: of, param: s.Parameter(request.ParamOf(of.From.Param()))}
}

// None is whether the stream that is being asked about names no origin.
func (o *Origins) None() bool {
	values := o.param.Values().All()
	return len(values) == 0 || len(values) == 1 && values[0] == ""
}

// Some is whether the stream that is being asked about comes from one of the origins: any that it names is, or it names more
// than anybody looks at. What names no origin comes from none.
func (o *Origins) Some() bool {
	values := o.param.Values()
	return values.TooMany() || slices.ContainsFunc(values.All(), func(name string) bool {
		return name != "" && slices.Contains(o.of.Names, name) != o.of.Others
	})
}
