import KeelCore
import KeelGraph
import Testing

@Suite struct SoftmaxWithGradientTests {
  private func loss(_ b: GraphBuilder, _ name: String) -> Tensor {
    b.append(.softmaxCrossEntropy(SoftmaxCrossEntropy()), [b.input(name, f32(4, 3)), b.input("labels", i32(4))])[0]
  }

  private func hits(_ b: GraphBuilder, _ name: String) -> Tensor {
    b.append(.topOne(TopOne()), [b.input(name, f32(4, 3)), b.input("labels", i32(4))])[0]
  }

  /// The gradient of x's loss with `upstream` for each row's.
  private func gradient(_ b: GraphBuilder, _ name: String, _ upstream: Tensor) -> Tensor {
    let operands = [upstream, b.input(name, f32(4, 3)), b.input("labels", i32(4))]
    return b.append(.softmaxCrossEntropyBackward(SoftmaxCrossEntropyBackward()), operands)[0]
  }

  private func traced(_ body: (GraphBuilder) -> [Tensor]) throws -> Graph {
    let builder = GraphBuilder(mode: .training)
    for (index, tensor) in body(builder).enumerated() { builder.output("y\(index)", tensor) }
    return try builder.graph()
  }

  private func names(_ graph: Graph) -> [String] { graph.nodes.map(\.operation.rules.name) }

  private func after(_ graph: Graph) throws -> Graph {
    try sameResults(graph, after: Pipeline([.softmaxWithGradient]))
  }

  @Test func lossAndGradientAreOne() throws {
    for givesHits in [false, true] {
      let graph = try traced { b in
        let mean = loss(b, "x").mean()
        return [mean, b.gradients(of: mean, withRespectTo: [b.input("x", f32(4, 3))])[0]]
          + (givesHits ? [hits(b, "x").sum()] : [])
      }
      let names = names(try after(graph))
      #expect(names.filter { $0.hasPrefix("softmax") || $0 == "topOne" } == ["softmaxCrossEntropyWithGradient"])
    }
  }

  /// Any upstream will do, one a row too, when it is known before the losses are.
  @Test func upstreamMayBeAnything() throws {
    let graph = try traced { b in [loss(b, "x"), gradient(b, "x", b.input("w", f32(4)).elementwise(.tanh))] }
    #expect(names(try after(graph)).contains("softmaxCrossEntropyWithGradient"))
    // Hits that decide on the upstream stay outside.
    let weighted = try after(try traced { b in [loss(b, "x"), gradient(b, "x", hits(b, "x"))] })
    #expect(names(weighted).contains("softmaxCrossEntropyWithGradient") && names(weighted).contains("topOne"))
  }

  @Test func upstreamThatFollowsFromTheLossKeepsThemApart() throws {
    let graph = try Pass.deadCode.run(
      traced { b in
        let squares = loss(b, "x").elementwise(.square).sum()
        return [squares, b.gradients(of: squares, withRespectTo: [b.input("x", f32(4, 3))])[0]]
      })
    #expect(try after(graph) == graph)
    // Neither are other logits, or a gradient without its loss.
    let others = try traced { b in
      [loss(b, "x"), gradient(b, "z", b.input("w", f32(4))), hits(b, "z")]
    }
    #expect(try after(others) == others)
  }

  /// Each of two losses weighs the other: one pair can be joined, both cannot.
  @Test func lossesThatWeighEachOther() throws {
    let graph = try traced { b in
      let losses = (loss(b, "x"), loss(b, "z"))
      return [losses.0, losses.1, gradient(b, "x", losses.1), gradient(b, "z", losses.0)]
    }
    let names = names(try after(graph))
    #expect(names.count { $0 == "softmaxCrossEntropyWithGradient" } == 1)
    #expect(names.count { $0 == "softmaxCrossEntropyBackward" } == 1)
  }
}
