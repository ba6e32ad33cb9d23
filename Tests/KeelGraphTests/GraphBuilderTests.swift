import KeelCore
import KeelGraph
import Testing

@Suite struct GraphBuilderTests {
  @Test func firstErrorWinsAndNamesItsLayer() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", f32(32, 784))
    builder.scope("layers") {
      builder.scope("0") {
        let wrong = x.matMul(builder.input("w", f32(780, 10)))
        // What follows an error is ignored, whatever it is.
        _ = wrong.matMul(x).sum(axes: [7]).reshape([3, 3])
      }
    }
    let expected = "[matMul] layers.0: expects inner extents that agree, got [32, 784] · [780, 10]"
    #expect(builder.error.map { "\($0)" } == expected)
    #expect { try builder.graph() } throws: { "\($0)" == expected }
  }

  @Test func anErrorGivesOnePlaceholderAResult() {
    let builder = GraphBuilder()
    let x = builder.input("x", f32(8, 4))
    let scale = builder.input("scale", f32(3))
    let results = builder.append(.batchNormTraining(BatchNormTraining(axis: 1, epsilon: 1e-5)), [x, scale, scale])
    #expect(results.count == 4)
    #expect(results.allSatisfy { $0.value.node == -1 && $0.type == f32(8, 4) })
    // Layers go on with the placeholder, gradients included, and nothing traps.
    let y = (results[0] * 2.0 + x).elementwise(.relu).transpose([1, 0]).broadcast(to: [8, 4]).cast(to: .float64)
    let gradients = builder.gradients(of: y.mean(), withRespectTo: [x])
    builder.output("y", y)
    builder.update(x, with: y)
    #expect(gradients.count == 1)
    #expect(builder.error?.description == "[batchNormTraining] expects 3 channels on axis 1, got [8, 4]")
  }

  /// Sizes that no memory has are refused where they arise, not trapped on where they are multiplied.
  @Test func resultsThatNoMemoryHolds() {
    let huge = Int.max / 2
    #expect(
      refusal { _ = $0.input("x", f32(huge, 3)) }
        == "[x] layer: expects results of at most 2⁴⁸ bytes, got f32[\(huge), 3]")
    #expect(
      refusal { _ = $0.input("x", f32(0, huge, 3)) }
        == "[x] layer: expects results of at most 2⁴⁸ bytes, got f32[0, \(huge), 3]")
    let side = 1 << 40
    #expect(
      refusal { _ = $0.input("a", f32(side, 1)).matMul($0.input("b", f32(1, side))).sum().elementwise(.relu) }
        == "[matMul] layer: expects results of at most 2⁴⁸ bytes, got f32[\(side), \(side)]")
    #expect(
      refusal { _ = $0.constant(1, Shape([side, side])) }
        == "[constant] layer: expects results of at most 2⁴⁸ bytes, got f32[\(side), \(side)]")
    let builder = GraphBuilder()
    builder.output("y", builder.input("x", f32(1 << 46)).sum())
    #expect(builder.error == nil)
  }

  @Test func operandOfAnotherGraph() {
    let other = GraphBuilder()
    let stranger = other.input("s", f32(2, 3))
    let text = "[add] layer: operand f32[2, 3] belongs to another graph"
    #expect(refusal { _ = $0.input("x", f32(2, 3)) + stranger } == text)
  }

  @Test func operandOfAnotherGraphAndType() {
    let other = GraphBuilder()
    // Far behind the last node of the graph that it is used in.
    let stranger = (0..<9).reduce(other.input("s", f64(2, 3))) { x, _ in x * x }
    let text = "[add] layer: operand f64[2, 3] belongs to another graph"
    #expect(refusal { _ = $0.input("x", f32(2, 3)) + stranger } == text)
  }

  @Test func resultsOfAnotherGraph() {
    let other = GraphBuilder()
    let stranger = (0..<9).reduce(other.input("s", f32(2))) { x, _ in x * x }
    #expect(refusal { $0.output("y", stranger) } == "[output] layer: y f32[2] belongs to another graph")
    #expect(
      refusal { $0.update($0.input("v", f32(2)), with: stranger) }
        == "[update] layer: f32[2] belongs to another graph")
    #expect(
      refusal { $0.update(stranger, with: $0.input("v", f32(2))) }
        == "[update] layer: f32[2] belongs to another graph")
    #expect(
      refusal { _ = $0.gradients(of: stranger.sum(), withRespectTo: [$0.input("v", f32(2))]) }
        == "[gradients] layer: f32[] belongs to another graph")
    #expect(
      refusal { _ = $0.gradients(of: $0.input("v", f32(2)).sum(), withRespectTo: [stranger]) }
        == "[gradients] layer: f32[2] belongs to another graph")
  }

  @Test func anInputIsOneNodeAndOneType() throws {
    let builder = GraphBuilder()
    let x = builder.input("x", f32(2))
    #expect(builder.input("x", f32(2)).value == x.value)
    _ = builder.input("x", f32(3))
    #expect(builder.error?.description == "[input] x is f32[2], asked for as f32[3]")
  }

  @Test func numbersTakeTheTypeOfTheirNeighbour() throws {
    let builder = GraphBuilder(dtype: .float32)
    let x = builder.input("x", f64(2))
    let y = x * 2.0
    #expect(y.type == f64(2))
    let labels = builder.input("labels", i32(3))
    #expect((labels + 1.0).type == i32(3))
    #expect(builder.error == nil)
    // A tensor is not a number: types are not mixed behind the user's back.
    _ = x + builder.input("single", f32(2))
    #expect(builder.error?.description.hasPrefix("[add] expects operands of one type, got") == true)
  }

  @Test func scopesNestAndJump() {
    let builder = GraphBuilder()
    builder.scope("block") {
      builder.scope("bn") { #expect(builder.path == "block.bn") }
      builder.scope(at: "loss") { #expect(builder.path == "loss") }
      builder.scope(at: "") { #expect(builder.path == "") }
      #expect(builder.path == "block")
    }
    #expect(builder.path == "")
  }

  @Test func updateOfSomethingThatIsNoVariable() {
    let builder = GraphBuilder()
    let x = builder.input("x", f32(2))
    builder.update(x * 2.0, with: x)
    #expect { try builder.graph() } throws: { "\($0)" == "[update] %2 expects a variable" }
  }

  @Test func updateOfAnotherType() {
    let builder = GraphBuilder()
    let x = builder.input("x", f32(2))
    builder.update(x, with: x.sum())
    #expect { try builder.graph() } throws: { "\($0)" == "[update] x expects f32[2], got f32[]" }
  }

  @Test func twoUpdatesOfOneVariable() {
    let builder = GraphBuilder()
    let x = builder.input("x", f32(2))
    builder.update(x, with: x * 2.0)
    builder.update(x, with: x * 3.0)
    #expect { try builder.graph() } throws: { "\($0)" == "[update] x expects one new value, got two" }
  }
}

@Suite struct TensorTests {
  @Test func reductionsRunByRun() throws {
    let x = { (b: GraphBuilder) in b.input("x", f32(2, 3, 4, 5)) }
    #expect(try graph { x($0).sum() }.nodes.map(\.types[0]) == [f32(2, 3, 4, 5), f32()])
    #expect(try graph { x($0).sum(axes: [0, 2]) }.nodes.map(\.types[0]) == [f32(2, 3, 4, 5), f32(2, 3, 5), f32(3, 5)])
    #expect(try graph { x($0).sum(axes: [-1, -2]) }.nodes.last?.types == [f32(2, 3)])
    #expect(try graph { x($0).max(axes: [1], keepingDimensions: true) }.nodes.last?.types == [f32(2, 1, 4, 5)])
    #expect(try graph { x($0).sum(axes: []) }.nodes.count == 1)
    #expect(refusal { _ = x($0).sum(axes: [4]) } == "[reduce] layer: expects axes of [2, 3, 4, 5], got [4]")
    #expect(refusal { _ = x($0).sum(axes: [-5]) } == "[reduce] layer: expects axes of [2, 3, 4, 5], got [-5]")
  }

  @Test func meansOverAnyAxes() throws {
    let values = (0..<24).map(Double.init)
    #expect(try interpret(["x": values]) { $0.input("x", f64(2, 3, 4)).mean() } == [11.5])
    #expect(try interpret(["x": values]) { $0.input("x", f64(2, 3, 4)).mean(axes: [0, 2]) } == [7.5, 11.5, 15.5])
    let kept = try graph { $0.input("x", f32(2, 3, 4)).mean(axes: [1], keepingDimensions: true) }
    #expect(kept.type(of: kept.outputs[0].value) == f32(2, 1, 4))
  }

  @Test(arguments: [1, Double.nan, .infinity, -.infinity]) func guardedUpdates(asked: Double) throws {
    let builder = GraphBuilder(dtype: .float64)
    let (weight, count) = (builder.input("weight", f64(2)), builder.input("count", i32(1)))
    let running = ["mean", "variance", "batches"].map { builder.input($0, f64(2)) }
    let batch = ["m", "r", "v"].map { builder.input($0, f64(2)) }
    builder.update(weight, with: weight * 2.0)
    builder.update(count, with: count + builder.constant([1], [1], .int32))
    let update = BatchNormRunningUpdate(weight: .fixed(0.5), varianceFactor: 1)
    let moved = builder.append(.batchNormRunningUpdate(update), running + batch)
    for (old, new) in zip(running, moved) { builder.update(old, with: new) }
    builder.guardUpdates(by: builder.input("asked", f64()))
    // Later updates do not ask.
    let later = builder.input("later", f64(1))
    builder.update(later, with: later + 1.0)
    let graph = try builder.graph()
    let results = try Interpreter(graph).run([
      "weight": [1, 2], "count": [5], "mean": [0, 2], "variance": [1, 1], "batches": [3, 0], "m": [2, .nan],
      "r": [0, 0], "v": [3, 3], "asked": [asked], "later": [7],
    ]).variables
    let isFinite = asked.isFinite
    #expect(results["weight"] == (isFinite ? [2, 4] : [1, 2]))
    #expect(results["mean"] == (isFinite ? [1, 2] : [0, 2]))
    #expect(results["variance"] == (isFinite ? [2, 1] : [1, 1]))
    // A channel that is not finite does not count.
    #expect(results["batches"] == (isFinite ? [4, 0] : [3, 0]))
    #expect(results["count"] == [6] && results["later"] == [8])
  }
}
