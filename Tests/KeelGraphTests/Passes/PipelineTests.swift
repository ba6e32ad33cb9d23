import KeelCore
import KeelGraph
import Testing

/// No pass changes what a graph computes: outputs and new values of variables, on random graphs and random inputs.
@Suite struct PipelineTests {
  private static let passes: [Pass] = [
    .canonicalize, .commonSubexpressions, .deadCode, .decompose, .leadingBatchNorm, .softmaxWithGradient,
    .fuseElementwise, .fuseEpilogue, .fusePrologue, .fuseBatchNorm, .fuseEveryUpdate, .materialize,
  ]

  private func expectUnchanged(_ graph: Graph, seed: UInt64) throws {
    let inputs = randomInputs(graph, seed: seed)
    let reference = try Interpreter(graph).run(inputs)
    func check(_ stage: String, _ changed: Graph) throws {
      let apart = distance(try Interpreter(changed).run(inputs), reference)
      #expect(apart < 1e-9, "\(graph.name) after \(stage): \(apart)")
    }
    for pass in Self.passes { try check("\(pass.name) alone", pass.run(graph).verified()) }
    for (name, pipeline) in [("standard", Pipeline.fusingAllUpdates), ("unfused", .unfused)] {
      var stages: [(String, Graph)] = []
      let last = try pipeline.run(graph) { stages.append(($0, $1)) }
      #expect(stages.map(\.0) == pipeline.passes.map(\.name))
      for (stage, changed) in stages { try check("\(name), \(stage)", changed) }
      // What is compiled stays what it is when the passes run again.
      try check("\(name) twice", pipeline.run(last))
    }
  }

  @Test(arguments: 0..<24 as Range<UInt64>) func anyGraph(_ seed: UInt64) throws {
    try expectUnchanged(RandomGraph.any(seed: seed), seed: seed)
  }

  @Test(arguments: 0..<8 as Range<UInt64>) func trainingSteps(_ seed: UInt64) throws {
    try expectUnchanged(RandomGraph.training(seed: seed), seed: seed)
  }

  @Test func passesFindWorkInTheRandomGraphs() throws {
    // Otherwise the property above says nothing.
    var seen: Set<String> = []
    for seed in 0..<12 as Range<UInt64> {
      for graph in [try RandomGraph.any(seed: seed), try RandomGraph.training(seed: seed)] {
        var before = graph
        _ = try Pipeline.fusingAllUpdates.run(graph) { name, after in
          if after != before { seen.insert(name) }
          before = after
        }
        let attributes = before.nodes.map(\.operation.rules.attributes)
        if before.nodes.contains(where: { $0.operation.rules.name == "fused" }) { seen.insert("fused") }
        for slot in ["epilogue", "prologue"] where attributes.contains(where: { $0.contains(slot) }) {
          seen.insert(slot)
        }
      }
    }
    #expect(seen == Set(Pipeline.standard.passes.map(\.name)).union(["fused", "epilogue", "prologue"]))
  }
}
