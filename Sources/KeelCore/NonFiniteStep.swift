/// What the cursor of a training loop does after a step whose loss is not finite. The numbers are those of `record.cl`.
public enum NonFiniteStep: Int, Hashable, Sendable, CaseIterable {
  /// It moves on as after every step.
  case advance = 0
  /// It moves on in the data only: the step is no step of the optimizer.
  case skip = 1
  /// It stays where it is, so that the steps that follow do the same work on the same samples and, their updates being
  /// guarded, change nothing until the host looks.
  case hold = 2
}
