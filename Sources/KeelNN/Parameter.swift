import KeelCore
import KeelGraph

/// A tensor that training changes: a stored property of a layer. Where a tensor is expected it can stand as it is.
public final class Parameter: TensorConvertible {
  /// Shape of the values; all extents are more than 0.
  public let shape: Shape
  /// How the values are drawn when the model is initialized.
  public let initializer: Initializer
  /// False keeps the optimizer away from the parameter.
  public var isTrainable: Bool
  /// Property path in the model, `layers.0.weight`; empty before the parameter is part of a ``Model``.
  public internal(set) var path = ""
  /// The values outside of training; nil before they are drawn or loaded.
  public var value: HostTensor?

  /// A parameter without values; a ``Model`` draws them.
  public init(_ shape: Shape, initializer: Initializer = .zeros, isTrainable: Bool = true) {
    self.shape = shape
    self.initializer = initializer
    self.isTrainable = isTrainable
  }

  /// The variable in this graph, in the graph's type. Impossible shapes, and variables of no model, are recorded there
  /// as errors.
  public func tensor(in builder: GraphBuilder) -> Tensor {
    builder.variable(path, shape, role: .parameter, kind: "parameter")
  }
}

/// A tensor that training gathers and evaluation uses, and that no optimizer sees: a stored property of a layer.
public final class RunningStatistic: TensorConvertible {
  /// Shape of the values; all extents are more than 0.
  public let shape: Shape
  /// The value of all elements at the start.
  public let initialValue: Double
  /// Whether its elements are among a network's parameters, those that do not train, when these are counted. Not for
  /// what only keeps count.
  public let countsAsParameter: Bool
  /// Property path in the model, `layers.1.runningMean`; empty before the statistic is part of a ``Model``.
  public internal(set) var path = ""
  /// The values outside of training; nil before the model is initialized or loaded.
  public var value: HostTensor?
  /// True keeps training from moving the statistic: what ``Parameter/isTrainable`` is to a parameter.
  public var isFrozen = false
  private weak var updatedIn: GraphBuilder?

  /// A statistic without values; a ``Model`` sets them.
  public init(_ shape: Shape, initialValue: Double, countsAsParameter: Bool = true) {
    self.shape = shape
    self.initialValue = initialValue
    self.countsAsParameter = countsAsParameter
  }

  /// The variable in this graph, in the graph's type. Impossible shapes, and variables of no model, are recorded there
  /// as errors.
  public func tensor(in builder: GraphBuilder) -> Tensor {
    builder.variable(path, shape, role: .runningStatistic, kind: "running statistic")
  }

  /// At the end of a step the statistic takes the value of `tensor`. Once a graph: of two updates from the same old
  /// value one would be lost, so the second is an error. A frozen statistic stays as it is.
  public func update(with tensor: Tensor) {
    if isFrozen { return }
    let builder = tensor.builder
    guard updatedIn !== builder else {
      builder.record(
        GraphError(
          "runningStatistic", path: builder.path,
          "expects one update of \(path) a step, got a second: the layer is called twice in training"))
      return
    }
    updatedIn = builder
    builder.update(self.tensor(in: builder), with: tensor)
  }
}

extension GraphBuilder {
  /// The variable at `path`; an error is recorded when it has no path or an impossible shape.
  fileprivate func variable(_ path: String, _ shape: Shape, role: Role, kind: String) -> Tensor {
    if path.isEmpty {
      record(
        GraphError(
          kind, path: self.path,
          "expects a stored property of a model, got a \(kind) of shape \(shape) "
            + "that is not a stored property of the model"))
    }
    if let problem = shape.problem { record(GraphError(kind, path: path, problem)) }
    return input(path, TensorType(shape, dtype), role: role)
  }
}
