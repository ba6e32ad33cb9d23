import KeelCore
import KeelGraph
import Testing

@Suite struct DecomposeTests {
  @Test func definitionsTakeTheirPlace() throws {
    let relu = Expression(
      inputCount: 2, instructions: [.init(.add, [.input(0), .input(1)]), .init(.relu, [.instruction(0)])])
    let after = try text(after: .decompose) { b in
      b.scope("dense") {
        b.append(
          .matMul(MatMul(epilogue: relu)), [b.input("x", f32(4, 3)), b.input("w", f32(3, 2)), b.input("b", f32(2))])[0]
      }
    }
    #expect(
      after == """
        graph g {
          %0 = x{data} : f32[4, 3]  // dense
          %1 = w{data} : f32[3, 2]  // dense
          %2 = b{data} : f32[2]  // dense
          %3 = matMul(%0, %1) : f32[4, 2]  // dense
          %4 = add(%3, %2) : f32[4, 2]  // dense
          %5 = relu(%4) : f32[4, 2]  // dense
          output y = %5
        }
        """)
  }

  @Test func softmaxCrossEntropyInSmallSteps() throws {
    let after = try Pass.decompose.run(
      graph { b in b.append(.topOne(TopOne()), [b.input("x", f32(4, 3)), b.input("labels", i32(4))])[0] })
    #expect(after.nodes.prefix(4).map(\.operation.rules.name) == ["x", "labels", "reduceMax", "reshape"])
    #expect(after.type(of: after.outputs[0].value) == f32(4))
  }

  @Test func onlyPrimitivesAreLeft() throws {
    // Every operation that has a definition is gone, those that definitions use included.
    for seed in 0..<6 as Range<UInt64> {
      let fused = try Pipeline.fusingAllUpdates.run(RandomGraph.training(seed: seed))
      let structured: Set<String> = [
        "fused", "batchNormTraining", "batchNormBackward", "batchNormRunningUpdate", "softmaxCrossEntropy",
        "softmaxCrossEntropyBackward", "softmaxCrossEntropyWithGradient", "topOne", "matMulUpdate",
        "matMulBatchNorm",
      ]
      #expect(fused.nodes.contains { structured.contains($0.operation.rules.name) })
      for node in try Pass.decompose.run(fused).nodes {
        #expect(!structured.contains(node.operation.rules.name))
        #expect(!node.operation.rules.attributes.contains("logue"), "\(node)")
      }
    }
  }
}
