import KeelCore
import KeelGraph

/// What a model consists of: a row a layer, and the number of its parameters.
///
/// Layers inside of ``Sequential`` have a row each; another layer is one row, whatever it is made of. Running
/// statistics count as parameters that are not trained, as Keras counts them.
public struct ModelSummary: Sendable, CustomStringConvertible {
  /// One layer.
  public struct Row: Hashable, Sendable {
    /// Property path; the type's name for a model of one layer.
    public var path: String
    /// Name of the Swift type.
    public var type: String
    /// Shape of the result, `(N, 32)`, where N is the batch.
    public var output: String
    /// Elements of parameters and running statistics that no row above has.
    public var parameterCount: Int
  }

  /// In the order in which the layers are called.
  public internal(set) var rows: [Row] = []
  /// Elements of the parameters that train.
  public internal(set) var trainableCount = 0
  /// Elements of the parameters that do not train, and of running statistics.
  public internal(set) var nonTrainableCount = 0
  /// Why there are no rows; nil when all is well.
  public internal(set) var error: GraphError?

  /// Elements of all variables.
  public var totalCount: Int { trainableCount + nonTrainableCount }

  /// A table, or the error.
  public var description: String {
    if let error { return error.description }
    let cells =
      [["Layer", "Type", "Output", "Parameters"]]
      + rows.map { [$0.path, $0.type, $0.output, grouped($0.parameterCount)] }
    let widths = (0..<4).map { column in cells.map { $0[column].count }.max() ?? 0 }
    let lines = cells.map { cell in
      (0..<4).map { $0 == 3 ? padding(cell[3], widths[3]) + cell[3] : cell[$0] + padding(cell[$0], widths[$0]) }
        .joined(separator: "  ")
    }
    let rule = String(repeating: "-", count: widths.reduce(6, +))
    let totals = [("Total", totalCount), ("Trainable", trainableCount), ("Non-trainable", nonTrainableCount)].map {
      $0 + padding($0 + grouped($1), rule.count) + grouped($1)
    }
    return ([lines[0], rule] + lines.dropFirst() + [rule] + totals).joined(separator: "\n")
  }
}

extension Model {
  /// Layers, output shapes and parameter counts for samples of shape `input` (without the batch axis).
  ///
  /// - Throws: what tracing throws: the first shape that does not fit, with the layer's path.
  public func summary(input: [Int]) throws(GraphError) -> ModelSummary {
    if let problem = Shape(input).problem { throw GraphError("summary", problem) }
    do { try checkNames("summary") } catch { throw GraphError(error.operation, error.message) }
    let builder = GraphBuilder(name: "summary", mode: .evaluation)
    let x = builder.input("input", TensorType(Shape([Self.batch] + input), builder.dtype))
    var summary = ModelSummary()
    assignPaths()
    let shapes = parameters.map { ($0.path, $0.shape) } + runningStatistics.map { ($0.path, $0.shape) }
    for (path, shape) in shapes {
      if let problem = shape.problem { throw GraphError("summary", path: path, problem) }
    }
    _ = appendRows(of: root, "", x, &summary)
    if let error = builder.error {
      throw GraphError(error.operation, path: error.path, error.message.replacing("[\(Self.batch)", with: "[N"))
    }
    return summary
  }

  /// Stands for the batch: a prime, so that no other extent is likely to be a multiple of it.
  private static var batch: Int { 1009 }

  private func appendRows(
    of layer: any Layer, _ path: String, _ x: Tensor, _ summary: inout ModelSummary
  ) -> Tensor {
    if let sequential = layer as? Sequential {
      var y = x
      for (index, child) in sequential.layers.enumerated() {
        y = appendRows(of: child, path.appending(component: Sequential.component(index)), y, &summary)
      }
      return y
    }
    let y = x.builder.scope(layer: path) { layer(x) }
    let type = String(describing: Swift.type(of: layer))
    let (trainable, fixed) = counts(below: path)
    summary.trainableCount += trainable
    summary.nonTrainableCount += fixed
    summary.rows.append(
      ModelSummary.Row(
        path: path.isEmpty ? type : path, type: type, output: text(y.shape), parameterCount: trainable + fixed))
    return y
  }

  /// Elements of the variables named below `path`. A shared variable has one name, so it is counted in one row.
  private func counts(below path: String) -> (trainable: Int, fixed: Int) {
    func elements(_ variables: [(path: String, shape: Shape)]) -> Int {
      variables.filter { path.isEmpty || $0.path.hasPrefix(path + ".") }.map(\.shape.count).reduce(0, +)
    }
    let frozen = parameters.filter { !$0.isTrainable }.map { ($0.path, $0.shape) }
    let statistics = runningStatistics.filter(\.countsAsParameter).map { ($0.path, $0.shape) }
    return (elements(trainableParameters.map { ($0.path, $0.shape) }), elements(frozen + statistics))
  }

  private func text(_ shape: Shape) -> String {
    let extents = shape.dimensions.enumerated().map { axis, extent in
      guard axis == 0, extent > 0, extent % Self.batch == 0 else { return "\(extent)" }
      return extent == Self.batch ? "N" : "\(extent / Self.batch)·N"
    }
    return "(" + extents.joined(separator: ", ") + ")"
  }
}

extension Layer {
  /// Layers, output shapes and parameter counts for samples of shape `input` (without the batch axis). Does not throw,
  /// so that it can be printed as it is: when a shape does not fit, the summary has the error and prints it.
  public func summary(input: [Int]) -> ModelSummary {
    do throws(GraphError) {
      return try Model(self).summary(input: input)
    } catch {
      var summary = ModelSummary()
      summary.error = error
      return summary
    }
  }
}

private func padding(_ text: String, _ width: Int) -> String {
  String(repeating: " ", count: max(width - text.count, 0))
}

/// 271346 as 271,346.
private func grouped(_ number: Int) -> String {
  var text = ""
  for (index, digit) in String(number).reversed().enumerated() {
    if index > 0, index % 3 == 0 { text.append(",") }
    text.append(digit)
  }
  return String(text.reversed())
}
