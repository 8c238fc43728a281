package management

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	countersignv1 "github.com/countersign/countersign/proto/gen/countersign/v1"
)

// changing is what every changing request has.
type changing interface {
	proto.Message
	GetRequestId() string
	GetWaitForPropagation() *durationpb.Duration
}

// response is the response to a change of one app.
type response interface {
	*countersignv1.CreateTokenResponse | *countersignv1.UpdateTokenResponse | *countersignv1.RevokeTokenResponse |
		*countersignv1.RotateTokenResponse | *countersignv1.ImportTokensResponse | *countersignv1.DeleteAppResponse |
		*countersignv1.SetEnforcementResponse
	proto.Message
	GetConsistencyToken() string
}

// common points to the fields that the responses of all changes have.
type common struct {
	// consistencyToken is nil for a RevokeSecretResponse, which has a token for each app.
	consistencyToken *string
	receipt          **countersignv1.Receipt
	durability       **countersignv1.Durability
}

// commonOf returns the common fields of the response to a change. The zero value is for other messages.
func commonOf(message proto.Message) common {
	switch m := message.(type) {
	case *countersignv1.CreateTokenResponse:
		return common{&m.ConsistencyToken, &m.Receipt, &m.Durability}
	case *countersignv1.UpdateTokenResponse:
		return common{&m.ConsistencyToken, &m.Receipt, &m.Durability}
	case *countersignv1.RevokeTokenResponse:
		return common{&m.ConsistencyToken, &m.Receipt, &m.Durability}
	case *countersignv1.RotateTokenResponse:
		return common{&m.ConsistencyToken, &m.Receipt, &m.Durability}
	case *countersignv1.ImportTokensResponse:
		return common{&m.ConsistencyToken, &m.Receipt, &m.Durability}
	case *countersignv1.DeleteAppResponse:
		return common{&m.ConsistencyToken, &m.Receipt, &m.Durability}
	case *countersignv1.SetEnforcementResponse:
		return common{&m.ConsistencyToken, &m.Receipt, &m.Durability}
	case *countersignv1.RevokeSecretResponse:
		return common{nil, &m.Receipt, &m.Durability}
	}
	return common{}
}

// content returns a copy of a changing request without the fields in which a repetition may differ (AIP-155).
// One of them is the allow_lockout of a RevokeSecret: a caller repeats a call that was refused in one app as
// a lockout with allow_lockout, and the other apps are done already.
func content(request changing) proto.Message {
	message := proto.Clone(request)
	switch m := message.(type) {
	case *countersignv1.CreateTokenRequest:
		m.RequestId, m.WaitForPropagation = "", nil
	case *countersignv1.UpdateTokenRequest:
		m.RequestId, m.WaitForPropagation = "", nil
	case *countersignv1.RevokeTokenRequest:
		m.RequestId, m.WaitForPropagation = "", nil
	case *countersignv1.RotateTokenRequest:
		m.RequestId, m.WaitForPropagation = "", nil
	case *countersignv1.ImportTokensRequest:
		m.RequestId, m.WaitForPropagation = "", nil
	case *countersignv1.DeleteAppRequest:
		m.RequestId, m.WaitForPropagation = "", nil
	case *countersignv1.SetEnforcementRequest:
		m.RequestId, m.WaitForPropagation = "", nil
	case *countersignv1.RevokeSecretRequest:
		m.RequestId, m.WaitForPropagation, m.AllowLockout = "", nil, false
	}
	return message
}
