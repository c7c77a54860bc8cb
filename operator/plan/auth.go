package plan

// Auth is what there is of users, and what is wanted.
type Auth struct {
	// Wanted says that members are to check users, and Ready that root's password
	// lies ready for it.
	Wanted, Ready bool
	// Kept says that the operator has had members check users, or was about to.
	Kept bool
	// Known says that members told whether they do, and Enabled that they do.
	Known, Enabled bool
	// Accepted says that members accept a password that the operator has, and
	// Current that it is the wanted one.
	Accepted, Current bool
	// Reason and Trouble are why that is not so, in one sentence that says what to
	// do; empty when nothing is wrong.
	Reason, Trouble string
}

// credentials tells what keeps users from being as they should; everything else
// goes on as long as members let the operator in.
func credentials(w *World, blocked *[]Blocked) *verdict {
	if w.Auth.Trouble != "" {
		*blocked = append(*blocked, Blocked{Reason: w.Auth.Reason, Message: w.Auth.Trouble})
	}
	return nil
}

// awaitCredentials keeps a cluster from being begun before it can be closed.
func (w *World) awaitCredentials() *Decision {
	switch {
	case !w.Auth.Wanted || w.Auth.Ready || w.Bootstrapped:
		return nil
	case w.Auth.Trouble != "":
		return w.waitSinceReported(setup, -1, 0, w.Auth.Reason, "%s", w.Auth.Trouble)
	}
	return w.waitSinceReported(setup, -1, w.Limits.ObjectTimeout, ReasonCredentials, "root's password is not there yet")
}

// lockedOut names the reason why nothing is known of the members: they do not
// answer somebody whom they do not know.
func lockedOut(w *World) *Decision {
	if w.ListKnown || !w.Auth.Enabled || w.Auth.Accepted || w.Auth.Trouble == "" {
		return nil
	}
	return w.waitSinceReported(findQuorum, -1, 0, w.Auth.Reason, "%s", w.Auth.Trouble)
}

// users brings them to what is wanted. What the operator did not turn on it does
// not turn off.
func users(w *World) *Decision {
	a := w.Auth
	switch {
	case !a.Known:
		return nil
	case a.Wanted && a.Ready && !a.Enabled:
		return act(setup, -1, step(EnableAuth, -1), "AuthDiffers", "members are to check users; root gets the password of the Secret")
	case a.Wanted && a.Ready && a.Accepted && !a.Current:
		return act(setup, -1, step(ChangePassword, -1), "PasswordDiffers", "the Secret has another password for root")
	case !a.Wanted && a.Kept && a.Accepted:
		return act(setup, -1, step(DisableAuth, -1), "AuthDiffers", "members are to check no users any more")
	}
	return nil
}
