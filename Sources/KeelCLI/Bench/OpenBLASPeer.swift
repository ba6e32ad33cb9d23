import COpenBLAS
import Foundation
import Keel

/// OpenBLAS of this machine, loaded while the program runs.
final class OpenBLASPeer {
  private var library = OpenBLAS()
  private var product: [Float] = []

  private static let files = ["libopenblas.so.0", "libopenblas.so", "libopenblas.dylib"]

  /// Throws when the library is not installed.
  ///
  /// It chooses its kernels by the processor's name, and knows none that is younger than itself: where `OPENBLAS_CORETYPE`
  /// does not say which, it is asked for those with AVX-512 where the processor has that, twice as fast as what it takes
  /// for a Zen 5.
  init(threads: Int) throws {
    if Self.hasAVX512 { setenv("OPENBLAS_CORETYPE", "SkylakeX", 0) }
    guard Self.files.contains(where: { (file: String) in openblas_load(&library, file) }) else {
      throw CommandError(
        "bench", "--compare expects OpenBLAS, and found no libopenblas; on Debian: apt install libopenblas0-pthread")
    }
    openblas_set_threads(&library, Int32(threads))
  }

  private static var hasAVX512: Bool {
    let text = (try? String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8)) ?? ""
    return ["avx512f", "avx512vl", "avx512bw", "avx512dq"].allSatisfy(text.contains)
  }

  /// Version, the kind of core it chose its kernels for, and threads.
  var name: String {
    let version = String(cString: openblas_config(&library)).split(separator: " ").prefix(2).joined(separator: " ")
    return "\(version), \(String(cString: openblas_core(&library))) kernels, \(openblas_threads(&library)) threads"
  }

  /// Seconds of a product, as the mean of `count` one after another.
  func seconds(_ benchmark: GemmBenchmark, count: Int) -> Double {
    let (shape, transposition) = (benchmark.shape, benchmark.transposition)
    if product.count < shape.m * shape.n { product = Array(repeating: 0, count: shape.m * shape.n) }
    return Timing.seconds {
      for _ in 0..<count {
        openblas_product(
          &library, transposition.a, transposition.b, Int32(shape.m), Int32(shape.n), Int32(shape.k), benchmark.a,
          benchmark.b, &product)
      }
    } / Double(count)
  }

  /// Returns when OpenBLAS' threads have gone to sleep. After a product they look for work for 2²⁸ cycles, a tenth of a
  /// second, and what is timed meanwhile lacks their cores.
  func rest() {
    let limit = ContinuousClock.now + .seconds(2)
    repeat {
      let begin = clock()
      Thread.sleep(forTimeInterval: 0.01)
      // Processor time of all threads of this process.
      if Double(clock() - begin) / Double(CLOCKS_PER_SEC) < 0.002 { return }
    } while ContinuousClock.now < limit
  }

  /// C as it was computed last, for the same benchmark.
  func result(of benchmark: GemmBenchmark) -> [Float] { Array(product.prefix(benchmark.shape.m * benchmark.shape.n)) }
}
