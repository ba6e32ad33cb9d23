/// A function from a graph to one that computes the same.
public struct Pass: Sendable {
  /// What `KEEL_DUMP` calls it.
  public let name: String
  public let run: @Sendable (Graph) throws(GraphError) -> Graph

  public init(_ name: String, _ run: @escaping @Sendable (Graph) throws(GraphError) -> Graph) {
    self.name = name
    self.run = run
  }
}

/// The passes in the order in which they run.
public struct Pipeline: Sendable {
  public var passes: [Pass]

  public init(_ passes: [Pass]) { self.passes = passes }

  /// What an executable is made with.
  public static let standard = Pipeline([
    // What fuseElementwise leaves behind still reads its operands, and would keep an epilogue from taking them.
    .canonicalize, .commonSubexpressions, .deadCode, .leadingBatchNorm, .softmaxWithGradient, .fuseElementwise,
    .deadCode, .fuseEpilogue, .fusePrologue, .deadCode, .fuseBatchNorm, .fuseUpdate, .materialize,
  ])

  /// Names of the passes of `standard` without which its results still run.
  public static let optional: Set<String> = [
    "commonSubexpressions", "leadingBatchNorm", "softmaxWithGradient", "fuseElementwise", "fuseEpilogue",
    "fusePrologue", "fuseBatchNorm", "fuseUpdate",
  ]

  /// Those of them that nobody has found to pay; executables leave them out unless they are asked for.
  public static let unproven: Set<String> = ["fuseBatchNorm"]

  /// The same passes but those of these names.
  public func omitting(_ names: Set<String>) -> Pipeline { Pipeline(passes.filter { !names.contains($0.name) }) }

  /// `KEEL_FUSE=0`: structured operations as their definitions say, a launch for each elementwise function.
  public static let unfused = Pipeline([.decompose, .canonicalize, .deadCode, .materialize])

  /// Runs the passes, verifying what each of them gives; `observe` sees every stage.
  public func run(_ graph: Graph, observe: (String, Graph) -> Void = { _, _ in }) throws(GraphError) -> Graph {
    var graph = graph
    for pass in passes {
      graph = try pass.run(graph).verified()
      observe(pass.name, graph)
    }
    return graph
  }
}
