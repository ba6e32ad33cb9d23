import Foundation
import Keel
import Testing

@testable import KeelCLI

extension ToolTests {
  @Suite struct BenchTests {
    @Test func benchOfAStep() throws {
      let tool = try Tool()
      defer { tool.remove() }
      let outcome = try tool.run(
        "bench", "step", "--recipe", "mnist-plain", "--batch-size", "8", "--batch-size", "16", "--repeat", "2",
        "--steps", "4", "--json")
      #expect(outcome.code == 0, "\(outcome.errors)")
      let rows = try #require(try outcome.json()["steps"] as? [[String: Any]])
      #expect(rows.map { $0["batchSize"] as? Int } == [8, 16])
      for row in rows {
        #expect(row["recipe"] as? String == "mnist-plain")
        #expect(try #require(row["microseconds"] as? Double) > 0)
        #expect(try #require(row["median"] as? Double) >= #require(row["microseconds"] as? Double))
        #expect(try #require(row["launches"] as? Int) > 0)
      }
    }

    @Test func benchOfProducts() throws {
      let tool = try Tool()
      defer { tool.remove() }
      let outcome = try tool.run(
        "bench", "gemm", "--shape", "8x16x4", "--shape", "33x5x7", "--transpose", "NN", "--transpose", "TN",
        "--variant", "naive", "--repeat", "3", "--json")
      #expect(outcome.code == 0, "\(outcome.errors)")
      let object = try outcome.json()
      // No comparison, no word of it.
      #expect(object["peer"] == nil && object["worstRatio"] == nil)
      let rows = try #require(object["shapes"] as? [[String: Any]])
      #expect(rows.map { $0["m"] as? Int } == [8, 8, 33, 33])
      #expect(rows.map { $0["transposition"] as? String } == ["NN", "TN", "NN", "TN"])
      for row in rows {
        #expect(row["variant"] as? String == "naive")
        let microseconds = try #require(row["microseconds"] as? Double)
        #expect(try #require(row["median"] as? Double) >= microseconds)
        let (m, n, k) = try (
          #require(row["m"] as? Double), #require(row["n"] as? Double), #require(row["k"] as? Double)
        )
        let gflops = try #require(row["gflops"] as? Double)
        #expect(abs(gflops * microseconds * 1e3 - 2 * m * n * k) < 1e-6 * m * n * k)
        #expect(try #require(row["shareOfRoof"] as? Double) > 0)
      }
    }

    @Test func comparisonWithOpenBLAS() throws {
      let tool = try Tool()
      defer { tool.remove() }
      let outcome = try tool.run("bench", "gemm", "--compare", "--shape", "8x16x4", "--repeat", "2", "--json")
      guard (try? OpenBLASPeer(threads: 1)) != nil else {
        // Where it is not installed, the message says what to install.
        #expect(outcome.code == 1)
        #expect(outcome.errors.contains("libopenblas"), "\(outcome.errors)")
        return
      }
      #expect(outcome.code == 0, "\(outcome.errors)")
      let object = try outcome.json()
      let rows = try #require(object["shapes"] as? [[String: Any]])
      let ratios = try rows.map { try #require($0["ratio"] as? Double) }
      #expect(ratios.count == 3)
      #expect(object["worstRatio"] as? Double == ratios.min())
      let mean = try #require(object["geometricMeanRatio"] as? Double)
      #expect(abs(mean - pow(ratios.reduce(1, *), 1.0 / 3)) < 1e-9 * mean)
      #expect(object["worstRatioOfMedians"] is Double && object["geometricMeanRatioOfMedians"] is Double)
      #expect((object["peer"] as? String)?.hasPrefix("OpenBLAS") == true)
    }

    /// The peer computes the product that is timed beside it: a wrong stride would be a wrong comparison.
    @Test(arguments: Transposition.allCases) func theSameProduct(_ transposition: Transposition) throws {
      guard let peer = try? OpenBLASPeer(threads: 1) else { return }
      let context = try ComputeContext(Device.best())
      let benchmark = try GemmBenchmark(GemmShape(m: 5, n: 3, k: 7), transposition, forced: nil, on: context)
      _ = try benchmark.seconds(count: 1)
      _ = peer.seconds(benchmark, count: 1)
      let (own, other) = (try benchmark.result(), peer.result(of: benchmark))
      #expect(own.count == 15 && other.count == 15)
      #expect(zip(own, other).allSatisfy { abs($0 - $1) < 1e-5 })
    }
  }
}
